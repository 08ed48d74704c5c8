"""The calls on tuned models and their endpoints, each as one value like those on tuning jobs.

Source: the methods of ``projects.locations.models`` and ``projects.locations.endpoints`` in the discovery documents
v1 and v1beta1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from airflow_tuning_provider.api import names, responses
from airflow_tuning_provider.api.calls import Call, Json, Page
from airflow_tuning_provider.api.errors import ApiError
from airflow_tuning_provider.api.inputs import InvalidInputError, as_int
from airflow_tuning_provider.api.names import EndpointName, ModelName

_Item = Callable[[Json], "Json | ApiError"]


@dataclass(frozen=True)
class ModelCalls:
    """The calls on models and endpoints; each raises :class:`InvalidInputError` for what cannot be sent.

    All of them may be repeated: an alias that moves twice is where it belongs, and what is deleted twice is gone.

    :param project: project where a call names none.
    :param location: location where a call names none.
    """

    project: str | None
    location: str | None

    def model(self, name: object) -> Call[Json]:
        """``GET {model}``: the version or alias that the name has, else the default version.

        :param name: the model.
        """
        model = ModelName.parse(name, field="model")
        return Call("GET", str(model), model.location, f"get {model}", responses.as_model)

    def models(
        self,
        location: str | None = None,
        *,
        project: str | None = None,
        filter: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Call[Page]:
        """``GET {parent}/models``, one page: each model as its default version.

        :param location: location to list.
        :param project: project to list.
        :param filter: the API's list filter, for example ``display_name="router"``.
        :param page_size: models for the page, 1 to 1000; default: the service's.
        :param page_token: ``nextPageToken`` of the page before.
        """
        parent = self._parent(project, location)
        return self._page(
            f"{parent}/models", "models", responses.as_model, str(parent), filter, page_size, page_token
        )

    def versions(self, name: object, *, page_token: str | None = None) -> Call[Page]:
        """``GET {model}:listVersions``, one page.

        :param name: the model.
        :param page_token: ``nextPageToken`` of the page before.
        """
        model = ModelName.parse(name, field="model").unversioned
        path = f"{model}:listVersions"
        return self._page(path, "models", responses.as_model, model.parent, None, None, page_token)

    def checkpoints(self, name: object, *, page_token: str | None = None) -> Call[Page]:
        """``GET {model}:listCheckpoints``, one page: of the latest version where the name has none.

        :param name: the model.
        :param page_token: ``nextPageToken`` of the page before.
        """
        model = ModelName.parse(name, field="model")
        path = f"{model}:listCheckpoints"
        return self._page(path, "checkpoints", responses.as_checkpoint, model.parent, None, None, page_token)

    def merge_aliases(self, name: object, add: Sequence[str], remove: Sequence[str]) -> Call[Json]:
        """``POST {model@version}:mergeVersionAliases``; another version of the model loses what this one gains.

        :param name: the model with its version.
        :param add: aliases to give to it.
        :param remove: aliases to take from it.
        """
        model = _versioned(name)
        changes = [names.validate_alias(alias) for alias in add]
        changes += [f"-{names.validate_alias(alias)}" for alias in remove]
        if not changes or set(add) & set(remove):
            raise InvalidInputError(
                "aliases", changes, "give aliases to add or to remove, none of them twice"
            )
        what = f"change the aliases of {model} by {', '.join(changes)}"
        path = f"{model}:mergeVersionAliases"
        body = {"versionAliases": changes}
        return Call("POST", path, model.location, what, responses.as_model, body=body)

    def set_default_checkpoint(self, name: object, checkpoint_id: object) -> Call[Json]:
        """``PATCH {model@version}?updateMask=defaultCheckpointId``.

        :param name: the model with its version.
        :param checkpoint_id: the checkpoint that the model stands for from then on.
        """
        model = _versioned(name)
        number = as_int(checkpoint_id)
        if number is None or number < 0:
            raise InvalidInputError(
                "checkpoint_id", checkpoint_id, "give the id of a checkpoint, such as '2'"
            )
        return Call(
            "PATCH",
            str(model),
            model.location,
            f"set the default checkpoint of {model}",
            responses.as_model,
            query={"updateMask": "defaultCheckpointId"},
            body={"defaultCheckpointId": str(number)},
        )

    def delete_model(self, name: object) -> Call[Json]:
        """``DELETE {model}`` with all its versions, none of which may be deployed; a long-running operation.

        :param name: the model without a version.
        """
        model = ModelName.parse(name, field="model")
        if model.version:
            raise InvalidInputError(
                "model", name, "give the model without a version: all of them are deleted"
            )
        return Call("DELETE", str(model), model.location, f"delete {model}", responses.as_operation)

    def delete_version(self, name: object) -> Call[Json]:
        """``DELETE {model@version}:deleteVersion``: not the only one; a long-running operation.

        :param name: the model with its version.
        """
        model = _versioned(name)
        path = f"{model}:deleteVersion"
        return Call("DELETE", path, model.location, f"delete {model}", responses.as_operation)

    def endpoint(self, name: object) -> Call[Json]:
        """``GET {endpoint}``.

        :param name: the endpoint.
        """
        endpoint = EndpointName.parse(name, field="endpoint")
        return Call("GET", str(endpoint), endpoint.location, f"get {endpoint}", responses.as_endpoint)

    def endpoints(
        self,
        location: str | None = None,
        *,
        project: str | None = None,
        filter: str | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> Call[Page]:
        """``GET {parent}/endpoints``, one page; those of Gemini 3 models are in ``us`` or ``eu``.

        :param location: location to list.
        :param project: project to list.
        :param filter: the API's list filter.
        :param page_size: endpoints for the page, 1 to 1000; default: the service's.
        :param page_token: ``nextPageToken`` of the page before.
        """
        parent = self._parent(project, location)
        path = f"{parent}/endpoints"
        return self._page(path, "endpoints", responses.as_endpoint, parent, filter, page_size, page_token)

    def undeploy(self, name: object, deployed_model_id: object) -> Call[Json]:
        """``POST {endpoint}:undeployModel``; a long-running operation.

        :param name: the endpoint.
        :param deployed_model_id: by which id the endpoint knows the model.
        """
        endpoint = EndpointName.parse(name, field="endpoint")
        if not isinstance(deployed_model_id, str) or not deployed_model_id:
            raise InvalidInputError(
                "deployed_model_id", deployed_model_id, "give the id of the deployed model"
            )
        what = f"undeploy {deployed_model_id} from {endpoint}"
        path, body = f"{endpoint}:undeployModel", {"deployedModelId": deployed_model_id}
        return Call("POST", path, endpoint.location, what, responses.as_operation, body=body)

    def delete_endpoint(self, name: object) -> Call[Json]:
        """``DELETE {endpoint}``, which must have no model; a long-running operation.

        :param name: the endpoint.
        """
        endpoint = EndpointName.parse(name, field="endpoint")
        return Call("DELETE", str(endpoint), endpoint.location, f"delete {endpoint}", responses.as_operation)

    def _page(
        self,
        path: str,
        key: str,
        item: _Item,
        parent: str,
        filter: str | None,
        page_size: int | None,
        page_token: str | None,
    ) -> Call[Page]:
        size = None if page_size is None else as_int(page_size)
        if page_size is not None and (size is None or not 0 < size <= 1000):
            raise InvalidInputError("page_size", page_size, "give a whole number from 1 to 1000")
        query = {
            "filter": filter,
            "pageSize": None if size is None else str(size),
            "pageToken": page_token,
        }
        return Call(
            "GET",
            path,
            parent.rpartition("/")[2],
            f"list {path.rpartition('/')[2] if ':' not in path else path}",
            partial(responses.as_page, asked=page_token, key=key, item=item),
            query={name: value for name, value in query.items() if value},
        )

    def _parent(self, project: str | None, location: str | None) -> str:
        return names.parent(project or self.project, location or self.location)


def _versioned(name: object) -> ModelName:
    model = ModelName.parse(name, field="model")
    if model.version is None or not model.version.isdecimal():
        raise InvalidInputError("model", name, "give the model with its version: …/models/ID@VERSION")
    return model
