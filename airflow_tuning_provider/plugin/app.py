"""The page's routes. Each but the static files asks who is there, and shows what that user may see.

No route works on the event loop: see :mod:`airflow_tuning_provider.plugin.threads`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from airflow_tuning_provider.exceptions import TuningError
from airflow_tuning_provider.plugin.access import Access
from airflow_tuning_provider.plugin.desk import Desk, Question
from airflow_tuning_provider.plugin.threads import Threads

STATIC = Path(__file__).parent / "static"
HEADER = "tuning-jobs"
"""Value of ``X-Requested-With``: a page of another site cannot send that header with a user's cookie."""

T = TypeVar("T")
_Short = Annotated[str, Query(max_length=250)]
_Id = Annotated[str, Field(max_length=250)]


class JobAction(BaseModel):
    """A job to do something with."""

    connection: _Id
    name: Annotated[str, Field(max_length=500)]


class OrphanSearch(BaseModel):
    """Where to look for orphans, and which of those found before to cancel."""

    connection: _Id = ""
    project: _Id = ""
    location: _Id = ""
    cancel: Annotated[list[str], Field(max_length=1000)] | None = None


def _same_site(
    request: Request,
    x_requested_with: Annotated[str, Header()] = "",
    sec_fetch_site: Annotated[str, Header()] = "same-origin",
) -> None:
    """Refuse a request that another site may have made the user's browser send."""
    if x_requested_with != HEADER or sec_fetch_site not in ("same-origin", "none"):
        raise HTTPException(403, "This request does not come from the page Tuning jobs.")


def _no_store(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"


def build_app() -> FastAPI:
    """Return the application that the API server mounts."""
    app = FastAPI(title="Tuning jobs", openapi_url=None, docs_url=None, redoc_url=None)
    desk, threads = Desk(), Threads()

    @app.exception_handler(RequestValidationError)
    def not_valid(_: Request, error: RequestValidationError) -> JSONResponse:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors())
        return JSONResponse({"detail": f"Not a valid request. {wrong}"}, 422)

    async def answer(function: Callable[[], T]) -> T:
        try:
            return await threads.run(function)
        except TuningError as error:  # a project or a location that cannot be right
            raise HTTPException(400, str(error)) from None

    # Known before anything else about a request: who asks. Anonymous calls get Airflow's own 401.
    asked = [Depends(_no_store)]
    acting = [Depends(_same_site), Depends(_no_store)]

    @app.get("/api/places", dependencies=asked)
    async def places(user: GetUserDep) -> dict[str, Any]:
        return await answer(lambda: desk.places(Access(user)))

    @app.get("/api/jobs", dependencies=asked)
    async def jobs(
        user: GetUserDep,
        connection: _Short = "",
        project: _Short = "",
        location: _Short = "",
        days: Annotated[int, Query(ge=1, le=3650)] = 30,
        state: Annotated[str, Query(pattern="^(active|succeeded|failed|cancelled)?$")] = "",
        dag: _Short = "",
        run: _Short = "",
        task: _Short = "",
        text: _Short = "",
        page: Annotated[str, Query(max_length=4000)] = "",
        fresh: bool = False,
    ) -> dict[str, Any]:
        question = Question(
            connection,
            project,
            location,
            days,
            state,
            dag.strip(),
            run.strip(),
            task.strip(),
            text,
            page,
            fresh,
        )
        return await answer(lambda: desk.jobs(Access(user), question))

    @app.get("/api/job", dependencies=asked)
    async def job(
        user: GetUserDep, connection: _Short, name: Annotated[str, Query(max_length=500)]
    ) -> dict[str, Any]:
        return await answer(lambda: desk.job(Access(user), connection, name))

    @app.post("/api/job/cancel", dependencies=acting)
    async def cancel(user: GetUserDep, action: JobAction) -> dict[str, Any]:
        return await answer(lambda: desk.cancel(Access(user), action.connection, action.name))

    @app.post("/api/job/recheck", dependencies=acting)
    async def recheck(user: GetUserDep, action: JobAction) -> dict[str, Any]:
        return await answer(lambda: desk.recheck(Access(user), action.connection, action.name))

    @app.post("/api/orphans", dependencies=acting)
    async def orphans(user: GetUserDep, search: OrphanSearch) -> dict[str, Any]:
        return await answer(
            lambda: desk.orphans(
                Access(user), search.connection, search.project, search.location, search.cancel
            )
        )

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
