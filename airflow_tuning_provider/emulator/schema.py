"""What the API's messages look like: one line per message, for both versions.

Notation, per field: ``name:type``. Types are str, bool, int32, int64, double, float, map (string to
string), any and struct (kept as sent; a struct is an object), json (a message that is not listed here:
any object, keys in either case), another message, ``@Enum``, ``[type]`` for a list and ``{type}`` for a
map of messages. ``-`` is an output-only field (ignored in a request; its type may be left out), ``!`` a
required one, ``~`` one that only v1beta1 has, ``^`` one that only v1 has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_MESSAGES = """
TuningJob = baseModel:str createTime:- customBaseModel:~str description:str
    distillationSpec:~DistillationSpec encryptionSpec:EncryptionSpec endTime:- error:-Status
    evaluateDatasetRuns:-[json] experiment:- fullFineTuningSpec:~FullFineTuningSpec gcsMetricsUri:- labels:map
    name:- outputUri:~str partnerModelTuningSpec:~PartnerModelTuningSpec pipelineJob:~-
    preTunedModel:PreTunedModel preferenceOptimizationSpec:PreferenceOptimizationSpec
    reinforcementTuningSpec:~ReinforcementTuningSpec satisfiesPzi:~- satisfiesPzs:~- serviceAccount:str
    startTime:- state:- supervisedTuningSpec:SupervisedTuningSpec tunedModel:-TunedModel
    tunedModelDisplayName:str tuningDataStats:-TuningDataStats tuningJobMetadata:~-TuningJobMetadata
    tuningJobState:~- updateTime:-
    veoLoraTuningSpec:~VeoLoraTuningSpec veoTuningSpec:~VeoTuningSpec
TunedModel = checkpoints:-[TunedModelCheckpoint] endpoint:- model:-
TunedModelCheckpoint = checkpointId:- endpoint:- epoch:- step:-
TuningDataStats = distillationDataStats:~-json preferenceOptimizationDataStats:-json
    reinforcementTuningDataStats:~-json supervisedTuningDataStats:-SupervisedTuningDataStats
SupervisedTuningDataStats = droppedExampleReasons:- totalBillableCharacterCount:- totalBillableTokenCount:-
    totalTruncatedExampleCount:- totalTuningCharacterCount:- truncatedExampleIndices:-
    tuningDatasetExampleCount:- tuningStepCount:- userDatasetExamples:-[json]
    userInputTokenDistribution:-json userMessagePerExampleDistribution:-json
    userOutputTokenDistribution:-json
TuningJobMetadata = completedEpochCount:~- completedStepCount:~-
ListTuningJobsResponse = nextPageToken:- tuningJobs:-[TuningJob]
Model = artifactUri:str baseModelSource:json checkpoints:-[Checkpoint] containerSpec:json createTime:-
    dataStats:^json defaultCheckpointId:str deployedModels:-[DeployedModelRef] description:str
    displayName:str encryptionSpec:EncryptionSpec etag:str explanationSpec:json labels:map metadata:any
    metadataArtifact:- metadataSchemaUri:str modelSourceInfo:-ModelSourceInfo name:str
    originalModelInfo:-json pipelineJob:^str predictSchemata:json satisfiesPzi:- satisfiesPzs:-
    supportedDeploymentResourcesTypes:- supportedExportFormats:-[json] supportedInputStorageFormats:-
    supportedOutputStorageFormats:- trainingPipeline:- updateTime:- versionAliases:[str]
    versionCreateTime:- versionDescription:str versionId:- versionUpdateTime:-
Checkpoint = checkpointId:- epoch:- step:-
ModelVersionCheckpoint = checkpointId:- epoch:- step:-
DeployedModelRef = checkpointId:- deployedModelId:- endpoint:-
ModelSourceInfo = copy:- sourceType:-
ListModelsResponse = models:-[Model] nextPageToken:-
ListModelVersionsResponse = models:-[Model] nextPageToken:-
ListModelVersionCheckpointsResponse = checkpoints:-[ModelVersionCheckpoint] nextPageToken:-
MergeVersionAliasesRequest = versionAliases:![str]
Endpoint = clientConnectionConfig:json createTime:- dedicatedEndpointDns:- dedicatedEndpointEnabled:bool
    deployedModels:-[DeployedModel] description:str displayName:str enablePrivateServiceConnect:bool
    encryptionSpec:EncryptionSpec etag:str gdcConfig:json genAiAdvancedFeaturesConfig:json labels:map
    modelDeploymentMonitoringJob:- name:str network:str predictRequestResponseLoggingConfig:json
    privateServiceConnectConfig:json publisherModelConfig:~json satisfiesPzi:- satisfiesPzs:-
    trafficSplit:{int32} updateTime:-
DeployedModel = automaticResources:json checkpointId:str createTime:- dedicatedResources:json
    disableContainerLogging:bool disableExplanations:bool displayName:str enableAccessLogging:bool
    enableContainerLogging:~bool explanationSpec:json fasterDeploymentConfig:json
    fullFineTunedResources:~json gdcConnectedModel:str id:str model:str modelVersionId:-
    privateEndpoints:-json rolloutOptions:~json serviceAccount:str sharedResources:str
    speculativeDecodingSpec:json status:-json systemLabels:map
ListEndpointsResponse = endpoints:-[Endpoint] nextPageToken:-
UndeployModelRequest = deployedModelId:!str trafficSplit:{int32}
CountTokensRequest = contents:[json] generationConfig:GenerationConfig instances:[any] model:str
    systemInstruction:json tools:[json]
CountTokensResponse = promptTokensDetails:-[ModalityTokenCount] totalBillableCharacters:- totalTokens:-
ModalityTokenCount = modality:- tokenCount:-
GenerateContentResponse = candidates:-[json] createTime:- modelVersion:- promptFeedback:-json responseId:-
    usageMetadata:-json
Operation = done:- error:-Status metadata:-any name:- response:-any
ListOperationsResponse = nextPageToken:- operations:-[Operation] unreachable:-
Status = code:- details:-[json] message:-
RebaseTunedModelRequest = artifactDestination:GcsDestination deployToSameEndpoint:bool
    tunedModelRef:!TunedModelRef tuningJob:TuningJob
EvaluateInstancesRequest =
    allowCrossRegionModel:bool autoraterConfig:AutoraterConfig bleuInput:BleuInput coherenceInput:json
    cometInput:json exactMatchInput:ExactMatchInput fluencyInput:json fulfillmentInput:json
    groundednessInput:json instance:json location:str metricSources:[json] metrics:[Metric]
    metricxInput:json pairwiseMetricInput:json pairwiseQuestionAnsweringQualityInput:json
    pairwiseSummarizationQualityInput:json pointwiseMetricInput:json
    questionAnsweringCorrectnessInput:json questionAnsweringHelpfulnessInput:json
    questionAnsweringQualityInput:json questionAnsweringRelevanceInput:json rougeInput:RougeInput
    rubricBasedInstructionFollowingInput:json safetyInput:json summarizationHelpfulnessInput:json
    summarizationQualityInput:json summarizationVerbosityInput:json toolCallValidInput:json
    toolNameMatchInput:json toolParameterKeyMatchInput:json toolParameterKvMatchInput:json
    trajectoryAnyOrderMatchInput:json trajectoryExactMatchInput:json trajectoryInOrderMatchInput:json
    trajectoryPrecisionInput:json trajectoryRecallInput:json trajectorySingleToolUseInput:json
EvaluateInstancesResponse =
    bleuResults:-json coherenceResult:-json cometResult:-json exactMatchResults:-json
    fluencyResult:-json fulfillmentResult:-json groundednessResult:-json metricResults:-json
    metricxResult:-json pairwiseMetricResult:-json pairwiseQuestionAnsweringQualityResult:-json
    pairwiseSummarizationQualityResult:-json pointwiseMetricResult:-json
    questionAnsweringCorrectnessResult:-json questionAnsweringHelpfulnessResult:-json
    questionAnsweringQualityResult:-json questionAnsweringRelevanceResult:-json rougeResults:-json
    rubricBasedInstructionFollowingResult:-json safetyResult:-json summarizationHelpfulnessResult:-json
    summarizationQualityResult:-json summarizationVerbosityResult:-json toolCallValidResults:-json
    toolNameMatchResults:-json toolParameterKeyMatchResults:-json toolParameterKvMatchResults:-json
    trajectoryAnyOrderMatchResults:-json trajectoryExactMatchResults:-json
    trajectoryInOrderMatchResults:-json trajectoryPrecisionResults:-json trajectoryRecallResults:-json
    trajectorySingleToolUseResults:-json
ExactMatchInput = instances:![ExactMatchInstance] metricSpec:!ExactMatchSpec
ExactMatchInstance = prediction:str reference:str
BleuInput = instances:![BleuInstance] metricSpec:!BleuSpec
BleuInstance = prediction:str reference:str
RougeInput = instances:![RougeInstance] metricSpec:!RougeSpec
RougeInstance = prediction:str reference:str
GenerateContentRequest = cachedContent:str contents:![json] continuationToken:str
    generationConfig:GenerationConfig labels:map modelArmorConfig:json outputConfig:json
    safetySettings:[json] systemInstruction:json toolConfig:json tools:[json]
EncryptionSpec = kmsKeyName:!str
PreTunedModel = baseModel:- checkpointId:str tunedModelName:str
PreferenceOptimizationSpec = exportLastCheckpointOnly:bool
    hyperParameters:PreferenceOptimizationHyperParameters trainingDatasetUri:!str validationDatasetUri:str
SupervisedTuningSpec = evaluationConfig:EvaluationConfig exportLastCheckpointOnly:bool
    hyperParameters:SupervisedHyperParameters trainingDatasetUri:!str tuningMode:~@TuningMode
    validationDatasetUri:str
GcsDestination = outputUriPrefix:!str
TunedModelRef = pipelineJob:str tunedModel:str tuningJob:str
GenerationConfig = audioTimestamp:bool audioTranscriptionConfig:json candidateCount:int32
    enableAffectiveDialog:bool frequencyPenalty:float imageConfig:json logprobs:int32
    maxOutputTokens:int32 mediaResolution:@MediaResolution modelConfig:~json presencePenalty:float
    responseFormat:[json] responseJsonSchema:any responseLogprobs:bool responseMimeType:str
    responseModalities:[@Modality] responseSchema:json routingConfig:json seed:int32 speechConfig:json
    stopSequences:[str] temperature:float thinkingConfig:json topK:float topP:float translationConfig:json
PreferenceOptimizationHyperParameters = adapterSize:@AdapterSize beta:double epochCount:int64
    learningRateMultiplier:double
EvaluationConfig = autoraterConfig:AutoraterConfig datasetCustomMetrics:[DatasetCustomMetric]
    inferenceGenerationConfig:GenerationConfig metrics:![Metric] outputConfig:!OutputConfig
SupervisedHyperParameters = adapterSize:@AdapterSize batchSize:~int64 epochCount:int64
    learningRate:~double learningRateMultiplier:double
AutoraterConfig = autoraterModel:str flipEnabled:bool generationConfig:GenerationConfig
    samplingCount:int32
DatasetCustomMetric = aggregationFunction:!str displayName:str
Metric = aggregationMetrics:[@AggregationMetric] bleuSpec:BleuSpec
    computationBasedMetricSpec:ComputationBasedMetricSpec customCodeExecutionSpec:CustomCodeExecutionSpec
    exactMatchSpec:ExactMatchSpec llmBasedMetricSpec:LLMBasedMetricSpec metadata:MetricMetadata
    pairwiseMetricSpec:PairwiseMetricSpec pointwiseMetricSpec:PointwiseMetricSpec
    predefinedMetricSpec:PredefinedMetricSpec rougeSpec:RougeSpec
    stepBasedLlmMetricSpec:~StepBasedLlmMetricSpec
OutputConfig = gcsDestination:GcsDestination
BleuSpec = useEffectiveOrder:bool
ComputationBasedMetricSpec = parameters:struct type:!@ComputationType
CustomCodeExecutionSpec = codeExecutionRegion:~str evaluationFunction:!str
ExactMatchSpec =
LLMBasedMetricSpec = additionalConfig:struct judgeAutoraterConfig:AutoraterConfig metricPromptTemplate:!str
    predefinedRubricGenerationSpec:PredefinedMetricSpec resultParserConfig:EvaluationParserConfig
    rubricGenerationSpec:RubricGenerationSpec rubricGroupKey:str systemInstruction:str
MetricMetadata = otherMetadata:struct scoreRange:MetricMetadataScoreRange title:str
PairwiseMetricSpec = baselineResponseFieldName:str candidateResponseFieldName:str
    customOutputFormatConfig:CustomOutputFormatConfig metricPromptTemplate:!str systemInstruction:str
PointwiseMetricSpec = customOutputFormatConfig:CustomOutputFormatConfig metricPromptTemplate:!str
    systemInstruction:str
PredefinedMetricSpec = metricSpecName:!str metricSpecParameters:struct
    stepAutoraterConfigs:~{AutoraterConfig}
RougeSpec = rougeType:str splitSummaries:bool useStemmer:bool
EvaluationParserConfig = customCodeParserConfig:EvaluationParserConfigCustomCodeParserConfig
RubricGenerationSpec = modelConfig:AutoraterConfig promptTemplate:str rubricContentType:@RubricContentType
    rubricTypeOntology:[str]
MetricMetadataScoreRange = description:str max:!double min:!double step:double
CustomOutputFormatConfig = returnRawOutput:bool
EvaluationParserConfigCustomCodeParserConfig = codeExecutionRegion:~str parsingFunction:!str
DistillationSpec = baseTeacherModel:str hyperParameters:DistillationHyperParameters
    pipelineRootDirectory:str promptDatasetUri:str studentModel:str trainingDatasetUri:str
    tunedTeacherModelSource:str tuningMode:@TuningMode validationDatasetUri:str
FullFineTuningSpec = hyperParameters:SupervisedHyperParameters trainingDatasetUri:!str
    validationDatasetUri:str
PartnerModelTuningSpec = hyperParameters:struct trainingDatasetUri:!str validationDatasetUri:str
ReinforcementTuningSpec = compositeRewardConfig:CompositeReinforcementTuningRewardConfig
    hyperParameters:ReinforcementTuningHyperParameters
    singleRewardConfig:SingleReinforcementTuningRewardConfig trainingDatasetUri:str
    validationDatasetUri:str
VeoLoraTuningSpec = hyperParameters:VeoHyperParameters trainingDatasetUri:!str validationDatasetUri:str
    videoOrientation:@VideoOrientation
VeoTuningSpec = hyperParameters:VeoHyperParameters trainingDatasetUri:!str validationDatasetUri:str
DistillationHyperParameters = adapterSize:@AdapterSize batchSize:int64 epochCount:int64
    learningRate:double learningRateMultiplier:double
CompositeReinforcementTuningRewardConfig =
    weightedRewardConfigs:[CompositeReinforcementTuningRewardConfigWeightedRewardConfig]
ReinforcementTuningHyperParameters = adapterSize:@AdapterSize batchSize:int32 checkpointInterval:int32
    epochCount:int64 evaluateInterval:int32 learningRateMultiplier:double maxOutputTokens:int32
    samplesPerPrompt:int32 stepCount:int64 thinkingBudget:int32 thinkingLevel:@ThinkingLevel
SingleReinforcementTuningRewardConfig = autoraterScorer:ReinforcementTuningAutoraterScorer
    cloudRunRewardScorer:ReinforcementTuningCloudRunRewardScorer
    codeExecutionRewardScorer:ReinforcementTuningCodeExecutionRewardScorer
    parseResponseConfig:ReinforcementTuningParseResponseConfig rewardName:str
    stringMatchRewardScorer:ReinforcementTuningStringMatchRewardScorer
VeoHyperParameters = adapterSize:@VeoAdapterSize epochCount:int64 learningRateMultiplier:double
    tuningSpeed:@TuningSpeed tuningTask:@TuningTask veoDataMixtureRatio:double
CompositeReinforcementTuningRewardConfigWeightedRewardConfig =
    rewardConfig:SingleReinforcementTuningRewardConfig weight:float
ReinforcementTuningAutoraterScorer = autoraterConfig:AutoraterConfig autoraterPrompt:str
    autoraterResponseParseConfig:ReinforcementTuningParseResponseConfig
    exactMatchScorer:ReinforcementTuningAutoraterScorerExactMatchScorer
    parsedResponseConversionScorer:ReinforcementTuningAutoraterScorerParsedResponseConversionScorer
ReinforcementTuningCloudRunRewardScorer = cloudRunUri:str
ReinforcementTuningCodeExecutionRewardScorer = pythonCodeSnippet:str
ReinforcementTuningParseResponseConfig = parseType:@ParseType regexExtractExpression:str
ReinforcementTuningStringMatchRewardScorer = correctAnswerReward:float
    jsonMatchExpression:ReinforcementTuningStringMatchRewardScorerJsonMatchExpression
    stringMatchExpression:ReinforcementTuningStringMatchRewardScorerStringMatchExpression
    wrongAnswerReward:float
ReinforcementTuningAutoraterScorerExactMatchScorer = correctAnswerReward:float expression:str
    wrongAnswerReward:float
ReinforcementTuningAutoraterScorerParsedResponseConversionScorer =
ReinforcementTuningStringMatchRewardScorerJsonMatchExpression = keyName:str
    valueStringMatchExpression:ReinforcementTuningStringMatchRewardScorerStringMatchExpression
ReinforcementTuningStringMatchRewardScorerStringMatchExpression = expression:str
    matchOperation:@MatchOperation
StepBasedLlmMetricSpec = preprocessor:StepBasedLlmMetricSpecAgentDataPreprocessor
    steps:![StepBasedLlmMetricSpecStep]
StepBasedLlmMetricSpecAgentDataPreprocessor = codeConfig:StepBasedLlmMetricSpecCodePreprocessorConfig
    filterConfig:StepBasedLlmMetricSpecFilterPreprocessorConfig
StepBasedLlmMetricSpecStep = autoraterConfig:AutoraterConfig promptTemplate:!str
    responseParserConfig:EvaluationParserConfig stepId:!str
StepBasedLlmMetricSpecCodePreprocessorConfig = code:!str
StepBasedLlmMetricSpecFilterPreprocessorConfig =
    traceCompressionConfig:StepBasedLlmMetricSpecFilterPreprocessorConfigTraceCompressionConfig
StepBasedLlmMetricSpecFilterPreprocessorConfigTraceCompressionConfig = maxTurnCount:int32
    thoughtsFiltered:bool
"""

# Listed in the order of their numbers, from 0; "NAME=n" where the numbers are not in sequence.
_ENUMS = """
AdapterSize = ADAPTER_SIZE_UNSPECIFIED ADAPTER_SIZE_ONE ADAPTER_SIZE_FOUR ADAPTER_SIZE_EIGHT
    ADAPTER_SIZE_SIXTEEN ADAPTER_SIZE_THIRTY_TWO ADAPTER_SIZE_TWO
VeoAdapterSize = ADAPTER_SIZE_UNSPECIFIED ADAPTER_SIZE_EIGHT=8 ADAPTER_SIZE_SIXTEEN=16
    ADAPTER_SIZE_THIRTY_TWO=32
TuningMode = TUNING_MODE_UNSPECIFIED TUNING_MODE_FULL TUNING_MODE_PEFT_ADAPTER
MediaResolution = MEDIA_RESOLUTION_UNSPECIFIED MEDIA_RESOLUTION_LOW MEDIA_RESOLUTION_MEDIUM
    MEDIA_RESOLUTION_HIGH
Modality = MODALITY_UNSPECIFIED TEXT IMAGE AUDIO VIDEO
AggregationMetric = AGGREGATION_METRIC_UNSPECIFIED AVERAGE MODE STANDARD_DEVIATION VARIANCE MINIMUM
    MAXIMUM MEDIAN PERCENTILE_P90 PERCENTILE_P95 PERCENTILE_P99
ComputationType = COMPUTATION_BASED_METRIC_TYPE_UNSPECIFIED EXACT_MATCH BLEU ROUGE
RubricContentType = RUBRIC_CONTENT_TYPE_UNSPECIFIED PROPERTY NL_QUESTION_ANSWER
    PYTHON_CODE_ASSERTION
VideoOrientation = VIDEO_ORIENTATION_UNSPECIFIED LANDSCAPE PORTRAIT
ThinkingLevel = REINFORCEMENT_TUNING_THINKING_LEVEL_UNSPECIFIED MINIMAL LOW MEDIUM HIGH
TuningSpeed = TUNING_SPEED_UNSPECIFIED REGULAR FAST
TuningTask = TUNING_TASK_UNSPECIFIED TUNING_TASK_I2V TUNING_TASK_T2V TUNING_TASK_R2V
ParseType = RESPONSE_PARSE_TYPE_UNSPECIFIED IDENTITY REGEX_EXTRACT
MatchOperation = MATCH_OPERATION_UNSPECIFIED REGEX_CONTAINS PARTIAL_MATCH EXACT_MATCH
"""

# Of each group, at most one field may be set.
ONEOFS: dict[str, dict[str, tuple[str, ...]]] = {
    "TuningJob": {
        "source_model": ("baseModel", "preTunedModel"),
        "tuning_spec": (
            "supervisedTuningSpec",
            "preferenceOptimizationSpec",
            "distillationSpec",
            "fullFineTuningSpec",
            "partnerModelTuningSpec",
            "reinforcementTuningSpec",
            "veoTuningSpec",
            "veoLoraTuningSpec",
        ),
    },
    "TunedModelRef": {"tuned_model_ref": ("tunedModel", "tuningJob", "pipelineJob")},
    "DistillationSpec": {"teacher_model": ("baseTeacherModel", "tunedTeacherModelSource")},
    "ReinforcementTuningSpec": {"reward_config": ("singleRewardConfig", "compositeRewardConfig")},
    "LLMBasedMetricSpec": {
        "rubrics_source": ("rubricGroupKey", "rubricGenerationSpec", "predefinedRubricGenerationSpec")
    },
    "Metric": {
        "metric_spec": (
            "predefinedMetricSpec",
            "computationBasedMetricSpec",
            "llmBasedMetricSpec",
            "customCodeExecutionSpec",
            "pointwiseMetricSpec",
            "pairwiseMetricSpec",
            "exactMatchSpec",
            "bleuSpec",
            "rougeSpec",
            "stepBasedLlmMetricSpec",
        )
    },
}

# Scalars whose zero differs from "unset": it is kept and given back. Everywhere else zero is unset.
EXPLICIT_PRESENCE = frozenset({"GenerationConfig", "MetricMetadataScoreRange", "AutoraterConfig"})


@dataclass(frozen=True)
class Field:
    """One field of a message."""

    name: str
    type: str
    required: bool = False
    output_only: bool = False
    beta_only: bool = False
    v1_only: bool = False

    def known_to(self, version: str) -> bool:
        """Whether an API version has the field."""
        return not (self.beta_only if version == "v1" else self.v1_only)

    @property
    def snake(self) -> str:
        """The field's name in the proto file, as error messages give it."""
        return snake_case(self.name)


@lru_cache(maxsize=4096)
def snake_case(name: str) -> str:
    """Turn a JSON name into its proto name."""
    return re.sub(r"(?<!^)([A-Z])", lambda m: "_" + m[1].lower(), name)


@lru_cache(maxsize=4096)
def camel_case(name: str) -> str:
    """Turn a proto name into its JSON name."""
    return re.sub(r"_([a-z0-9])", lambda m: m[1].upper(), name)


def _entries(text: str) -> dict[str, list[str]]:
    joined = re.sub(r"\n\s+", " ", text.strip())
    pairs = (line.partition("=") for line in joined.split("\n"))
    return {name.strip(): rest.split() for name, _, rest in pairs}


def _field(text: str) -> Field:
    name, _, kind = text.partition(":")
    return Field(
        name, kind.lstrip("~^!-"), "!" in kind, "-" in kind, kind.startswith("~"), kind.startswith("^")
    )


def _enum(words: list[str]) -> dict[str, int]:
    return {w.partition("=")[0]: int(w.partition("=")[2] or i) for i, w in enumerate(words)}


MESSAGES: dict[str, dict[str, Field]] = {
    message: {field.name: field for field in map(_field, words)}
    for message, words in _entries(_MESSAGES).items()
}
ENUMS: dict[str, dict[str, int]] = {name: _enum(words) for name, words in _entries(_ENUMS).items()}
