"""Return to the model that served before, in one click.

``roll_back`` moves the champion's version alias back to the model before, and puts that on an event of the asset. A
second run, or a retry, does not go back further: it finds that it has been done. To go to any other model, promote it.

``roll_out`` stands for whatever serves the model. It runs on each event of the asset, so that it follows promotions
and roll-backs alike, and takes the endpoint from the event.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from airflow_tuning_provider.operators.promotion import RollbackTunedModelOperator

log = logging.getLogger(__name__)

# The asset that the promotion of the retraining DAG has among its outlets.
MODEL = Asset(name="support-router", uri="x-vertex-tuned-model://support-router")

with DAG(
    dag_id="roll_back",
    description="Return to the tuned model that served before.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    # Promotions and roll-backs of one line of models run one at a time.
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=30),
    default_args={"retries": 3, "retry_delay": timedelta(seconds=10)},
    params={
        "display_name": Param("support-router", type="string", description="Display name of the models.")
    },
    tags=["tuning", "example", "ops"],
):
    RollbackTunedModelOperator(
        task_id="roll_back",
        tuned_model_display_name="{{ params.display_name }}",
        outlets=[MODEL],
    )


with DAG(
    dag_id="roll_out",
    description="Serve the model that was promoted, or returned to.",
    doc_md=__doc__,
    schedule=[MODEL],
    catchup=False,
    max_active_runs=1,
    tags=["tuning", "example"],
):

    @task
    def serve(triggering_asset_events: Any) -> str:
        """Put the endpoint where the application reads it; here it only goes to the log and to the XCom."""
        champion = triggering_asset_events[MODEL][-1].extra
        log.info("%s answers on %s", champion["model"], champion["endpoint"])
        return champion["endpoint"]

    serve()
