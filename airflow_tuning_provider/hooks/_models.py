"""The calls on tuned models and their endpoints, as a part of the hook for tuning jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from airflow_tuning_provider._errors import refusing_invalid_input
from airflow_tuning_provider.api.calls import Call, Json, Page
from airflow_tuning_provider.api.model_calls import ModelCalls
from airflow_tuning_provider.hooks._base import ConnectedHook


class ModelRegistry(ConnectedHook):
    """Models of the Model Registry and the endpoints that serve them; names are full resource names."""

    @property
    def _models(self) -> ModelCalls:
        calls = self._calls
        return ModelCalls(calls.project, calls.location)

    def get_model(self, name: str) -> Json:
        """Return a model.

        :param name: ``projects/…/models/ID``, for a version other than the default one with ``@VERSION`` or ``@ALIAS``.
        :raises TuningNotFoundError: if there is none of that name.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._models.model(name))

    def list_models(
        self,
        *,
        project_id: str | None = None,
        location: str | None = None,
        filter: str | None = None,
        page_size: int | None = None,
    ) -> Iterator[Json]:
        """Iterate over models, each as its default version; a page is fetched when it is needed.

        :param project_id: project to list.
        :param location: location to list; models are where their tuning jobs were.
        :param filter: the API's list filter, for example ``display_name="router"``; check what you get.
        :param page_size: models per request, at most 1000; default: the service's.
        """

        def page(token: str | None) -> Call[Page]:
            return self._models.models(
                location, project=project_id, filter=filter, page_size=page_size, page_token=token
            )

        return self._walk(page)

    def list_model_versions(self, name: str) -> Iterator[Json]:
        """Iterate over the versions of a model.

        :param name: the model.
        """
        return self._walk(lambda token: self._models.versions(name, page_token=token))

    def list_model_checkpoints(self, name: str) -> Iterator[Json]:
        """Iterate over the checkpoints of a model's version.

        :param name: the model, with ``@VERSION`` for another version than the latest.
        """
        return self._walk(lambda token: self._models.checkpoints(name, page_token=token))

    def merge_version_aliases(
        self, name: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> Json:
        """Give aliases to a version of a model, or take them away; another version loses what this one gains.

        :param name: the model with its version.
        :param add: aliases to give.
        :param remove: aliases to take.
        :return: the model's version.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._models.merge_aliases(name, add, remove))

    def set_default_checkpoint(self, name: str, checkpoint_id: str) -> Json:
        """Choose which checkpoint a version of a model stands for.

        :param name: the model with its version.
        :param checkpoint_id: the checkpoint's id.
        :return: the model's version.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._models.set_default_checkpoint(name, checkpoint_id))

    def delete_model(self, name: str) -> Json:
        """Start to delete a model with all its versions, none of which may be deployed.

        :param name: the model, without a version.
        :return: the long-running operation, for :meth:`wait_until_ended` of the hook.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._models.delete_model(name))

    def delete_model_version(self, name: str) -> Json:
        """Start to delete a version of a model, which must not be the only one, and not deployed.

        :param name: the model with its version.
        :return: the long-running operation.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._models.delete_version(name))

    def get_endpoint(self, name: str) -> Json:
        """Return an endpoint.

        :param name: its full name.
        :raises TuningNotFoundError: if there is none of that name.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._models.endpoint(name))

    def list_endpoints(
        self,
        *,
        project_id: str | None = None,
        location: str | None = None,
        filter: str | None = None,
        page_size: int | None = None,
    ) -> Iterator[Json]:
        """Iterate over endpoints; those of Gemini 3 models are in ``us`` or ``eu``, not where their jobs were.

        The parameters are those of :meth:`list_models`.
        """

        def page(token: str | None) -> Call[Page]:
            return self._models.endpoints(
                location, project=project_id, filter=filter, page_size=page_size, page_token=token
            )

        return self._walk(page)

    def undeploy_model(self, endpoint: str, deployed_model_id: str) -> Json:
        """Start to take a model off an endpoint, which then answers no more.

        :param endpoint: the endpoint's full name.
        :param deployed_model_id: by which id the endpoint knows the model, see its ``deployedModels``.
        :return: the long-running operation.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._models.undeploy(endpoint, deployed_model_id))

    def delete_endpoint(self, name: str) -> Json:
        """Start to delete an endpoint, which must have no model.

        :param name: the endpoint's full name.
        :return: the long-running operation.
        """
        with refusing_invalid_input():
            return self._transport.perform(self._models.delete_endpoint(name))

    def _walk(self, page: Callable[[str | None], Call[Page]]) -> Iterator[Json]:
        with refusing_invalid_input():
            page(None)  # a wrong parameter must not wait for the first item
        return self._items(page)

    def _items(self, page: Callable[[str | None], Call[Page]]) -> Iterator[Json]:
        token: str | None = None
        while True:
            with refusing_invalid_input():
                items, token = self._transport.perform(page(token))
            yield from items
            if token is None:
                return
