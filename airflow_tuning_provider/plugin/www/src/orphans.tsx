import { post, type Orphans, type Place } from "./api";
import { Dialog, titleOf, Wrong } from "./parts";
import { Fragment, h, useEffect, useState } from "./react";

export function OrphanDialog({ place, onClose }: { place: Place; onClose: () => void }) {
  const [found, setFound] = useState<Orphans | null>(null);
  const [wrong, setWrong] = useState<Error | null>(null);
  const [busy, setBusy] = useState(true);
  const ask = async (cancel: string[] | null) => {
    setBusy(true);
    try {
      setFound(await post<Orphans>("orphans", { ...place, cancel }));
      setWrong(null);
    } catch (error) {
      setWrong(error as Error);
    }
    setBusy(false);
  };
  useEffect(() => void ask(null), []);
  const left = found?.orphans.filter((one) => !one.outcome) ?? [];
  return (
    <Dialog title="Jobs that no task waits for" onClose={onClose}>
      {wrong && <Wrong trouble={wrong} />}
      {busy && !found && <p className="tj-muted">Looking at the jobs under way …</p>}
      {found && (
        <Fragment>
          <p>
            {found.orphans.length === 0
              ? `None, among ${found.looked_at} ${found.looked_at === 1 ? "job" : "jobs"} under way of DAGs whose tasks you may edit.`
              : "Their tasks have ended, but they run on and cost money:"}
          </p>
          <ul className="tj-list">
            {found.orphans.map((one) => (
              <li key={one.name}>
                <strong>{titleOf(one)}</strong> <span className="tj-muted">created {one.created}</span>
                <div className="tj-muted">{one.outcome || one.why}</div>
              </li>
            ))}
          </ul>
          {left.length > 0 && !found.may_cancel && (
            <p className="tj-muted">
              To cancel them from here, give this Airflow a name first ([vertex_ai_tuning] deployment): without one, jobs
              of another Airflow with the same DAGs cannot be told from its own.
            </p>
          )}
        </Fragment>
      )}
      <div className="tj-row">
        <button type="button" className="tj-button" onClick={onClose}>Close</button>
        {left.length > 0 && found?.may_cancel && (
          <button type="button" className="tj-button tj-danger" disabled={busy} onClick={() => void ask(left.map((one) => one.name))}>
            {busy ? "Cancelling …" : `Cancel ${left.length === 1 ? "this job" : `these ${left.length} jobs`}`}
          </button>
        )}
      </div>
    </Dialog>
  );
}
