import { address, Refused, type Creator, type Linked, type Row, type Trouble } from "./api";
import { Fragment, h, useEffect, useRef, type Node } from "./react";

export const titleOf = (job: { display_name: string; id: string }) => job.display_name || `Job ${job.id}`;

export const whole = (value: number | null) => (value === null ? "" : value.toLocaleString("en"));

export function local(time: string | null): string {
  const moment = time ? new Date(time) : null;
  return moment && !Number.isNaN(moment.getTime()) ? moment.toLocaleString() : "";
}

export const State = ({ job }: { job: Row }) => (
  <Fragment>
    <span className={`tj-state tj-${job.tone}`}>{job.state_in_words}</span>
    <div className="tj-muted">
      {job.since}
      {job.progress && ` · ${job.progress}`}
    </div>
    {job.done !== null && (
      <div className="tj-meter" role="progressbar" aria-label="Steps done" aria-valuemin={0} aria-valuemax={100}
        aria-valuenow={Math.round(job.done * 100)}>
        <div style={{ width: `${job.done * 100}%` }} />
      </div>
    )}
  </Fragment>
);

const taskPath = (by: Creator) =>
  `dags/${encodeURIComponent(by.dag_id)}/runs/${encodeURIComponent(by.run_id)}/tasks/${encodeURIComponent(by.task_id)}` +
  (by.map_index >= 0 ? `/mapped/${by.map_index}` : "");

export function Origin({ job }: { job: Row }) {
  const by = job.creator;
  if (!job.dag) return <span className="tj-muted">not created by Airflow</span>;
  if (by)
    return (
      <Fragment>
        <a href={address(`dags/${encodeURIComponent(by.dag_id)}`)}>{by.dag_id}</a>
        <div className="tj-muted">
          <a href={address(taskPath(by))}>{by.task_id}{by.map_index >= 0 ? `[${by.map_index}]` : ""}</a> of {by.run_id}
        </div>
      </Fragment>
    );
  return (
    <Fragment>
      {job.dag_id ? <a href={address(`dags/${encodeURIComponent(job.dag_id)}`)}>{job.dag_id}</a> : job.dag}
      <div className="tj-muted">
        {job.task} of {job.run}{job.gone ? " · this Airflow has no such DAG" : " · its task instance is gone"}
      </div>
    </Fragment>
  );
}

export const Out = ({ to, children }: { to: string; children: Node }) => (
  <a href={to} target="_blank" rel="noopener noreferrer">{children} ↗</a>
);

export const Resource = ({ of }: { of: Linked }) => {
  if (!of) return null;
  return of.url ? <Out to={of.url}>{of.name}</Out> : <span>{of.name}</span>;
};

export function Wrong({ trouble }: { trouble: Trouble | Error }) {
  if (trouble instanceof Error) {
    const expired = trouble instanceof Refused && trouble.status === 401;
    return (
      <div className="tj-note tj-wrong" role="alert">
        <strong>{trouble.message}</strong>
        {expired && <p><a href={window.location.href}>Sign in again</a>, and you come back to this page.</p>}
      </div>
    );
  }
  return (
    <div className="tj-note tj-wrong" role="alert">
      <strong>{trouble.title}</strong>
      <p>{trouble.advice}</p>
      {trouble.details && <details><summary>Details</summary><p>{trouble.details}</p></details>}
    </div>
  );
}

export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: Node }) {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => element.current?.showModal(), []);
  return (
    <dialog ref={element} aria-label={title} onClose={onClose}>
      <h2>{title}</h2>
      {children}
    </dialog>
  );
}
