import { get, post, type Histogram, type Job } from "./api";
import { Dialog, local, Origin, Out, Resource, State, titleOf, whole, Wrong } from "./parts";
import { Fragment, h, useCallback, useEffect, useState, type Node } from "./react";

const Card = ({ title, children }: { title: string; children: Node }) => (
  <section className="tj-panel tj-card" aria-label={title}>
    <h2>{title}</h2>
    {children}
  </section>
);

const Facts = ({ of }: { of: [string, Node][] }) => (
  <dl className="tj-facts">
    {of.filter(([, value]) => value !== null && value !== "" && value !== undefined).map(([name, value]) => (
      <Fragment key={name}><dt>{name}</dt><dd>{value}</dd></Fragment>
    ))}
  </dl>
);

const short = (value: number | null) =>
  value === null ? "?" : Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)));

function Bars({ of }: { of: Histogram }) {
  const most = Math.max(...of.bars.map((bar) => bar.count), 1);
  const width = 360 / of.bars.length;
  if (of.min !== null && of.min === of.max)
    return <p className="tj-muted" style={{ margin: 0 }}><strong>{of.title}</strong>: always {short(of.min)}.</p>;
  const words = `from ${short(of.min)} to ${short(of.max)}, median ${short(of.median)}, 95 % at most ${short(of.p95)}`;
  return (
    <figure style={{ margin: 0 }}>
      <svg viewBox="0 0 360 104" role="img" aria-label={`${of.title}: ${words}`}>
        {of.bars.map((bar, at) => {
          const height = Math.max(1, (bar.count / most) * 84);
          return (
            <rect key={at} x={at * width + 1} y={86 - height} width={Math.max(1, width - 2)} height={height}>
              <title>{`${short(bar.left)} to ${short(bar.right)}: ${bar.count} examples`}</title>
            </rect>
          );
        })}
        <text x="0" y="101">{short(of.bars[0]!.left)}</text>
        <text x="360" y="101" textAnchor="end">{short(of.bars[of.bars.length - 1]!.right)}</text>
      </svg>
      <figcaption className="tj-muted"><strong>{of.title}</strong>: {words}.</figcaption>
    </figure>
  );
}

export function Detail({ connection, name, onBack }: { connection: string; name: string; onBack: () => void }) {
  const [job, setJob] = useState<Job | null>(null);
  const [wrong, setWrong] = useState<Error | null>(null);
  const [said, setSaid] = useState("");
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);

  const load = useCallback(async () => {
    try {
      setJob((await get<{ job: Job }>("job", { connection, name })).job);
      setWrong(null);
    } catch (error) {
      setWrong(error as Error);
    }
  }, [connection, name]);
  useEffect(() => void load(), [load]);
  useEffect(() => {
    if (!job?.active) return undefined;
    const timer = window.setInterval(() => document.visibilityState === "visible" && void load(), 15000);
    return () => window.clearInterval(timer);
  }, [job?.active, load]);

  const act = async (what: "cancel" | "recheck") => {
    setBusy(true);
    try {
      const answer = await post<{ job: Job; message: string }>(`job/${what}`, { connection, name });
      setJob(answer.job);
      setSaid(answer.message);
      setWrong(null);
    } catch (error) {
      setSaid("");
      setWrong(error as Error);
    }
    setBusy(false);
    setAsking(false);
  };

  return (
    <Fragment>
      <p style={{ margin: "0 0 6px" }}><button type="button" className="tj-link" onClick={onBack}>← All jobs</button></p>
      <div className="tj-head">
        <h1 className="tj-grow">{job ? titleOf(job) : "Tuning job"}</h1>
        {job?.console_url && <Out to={job.console_url}>Google Cloud console</Out>}
        <button type="button" className="tj-button" disabled={busy || !job} onClick={() => void act("recheck")}>Re-check</button>
        {job?.may_cancel && (
          <button type="button" className="tj-button tj-danger" disabled={busy} onClick={() => setAsking(true)}>Cancel job…</button>
        )}
      </div>
      <div aria-live="polite">{said && <div className="tj-note">{said}</div>}</div>
      {wrong && <Wrong trouble={wrong} />}
      {!job && !wrong && <p className="tj-muted">Asking Google about the job …</p>}
      {job && <Story job={job} />}
      {asking && job && (
        <Dialog title="Cancel this job?" onClose={() => setAsking(false)}>
          <p>
            <strong>{titleOf(job)}</strong> stops and its training so far is lost; what has run is paid for. A task that
            waits for it fails, and is not retried by itself.
          </p>
          <div className="tj-row">
            <button type="button" className="tj-button" disabled={busy} onClick={() => setAsking(false)}>Keep it</button>
            <button type="button" className="tj-button tj-danger" disabled={busy} onClick={() => void act("cancel")}>
              {busy ? "Cancelling …" : "Cancel the job"}
            </button>
          </div>
        </Dialog>
      )}
    </Fragment>
  );
}

function Story({ job }: { job: Job }) {
  return (
    <div className="tj-stack">
      {job.failure && (
        <div className={`tj-note ${job.tone === "bad" ? "tj-wrong" : ""}`} style={{ marginBottom: 0 }}>
          <strong>{job.failure.title}</strong>
          {job.failure.message && <p>{job.failure.message}</p>}
          <p>What to do: {job.failure.advice}</p>
        </div>
      )}
      <div className="tj-grid">
        <Card title="State">
          <div style={{ marginBottom: 12 }}><State job={job} /></div>
          <ol className="tj-phases">
            {job.timeline.map((phase) => (
              <li key={phase.what} className={phase.going_on ? "tj-now" : ""}>
                {phase.what}{phase.going_on ? " " : ": "}{phase.in_words}
                <div className="tj-muted">from {local(phase.from)}</div>
              </li>
            ))}
          </ol>
        </Card>
        <Card title="Job">
          <Facts of={[
            ["Created by", <Origin job={job} />], ["Created", `${job.created} (${local(job.create_time)})`],
            ["Base model", job.base_model], ["Kind", job.kind], ["Description", job.description],
            ["Training data", job.dataset],
            ["Name", <span className="tj-muted">{job.name}</span>],
          ]} />
        </Card>
        <Card title="Hyperparameters">
          {job.hyper_parameters.length ? (
            <Facts of={job.hyper_parameters.map((one) => [one.name, one.value])} />
          ) : <p className="tj-muted">Google has not chosen any yet.</p>}
        </Card>
        {(job.model || job.endpoint || job.checkpoints.length > 0) && (
          <Card title="Result">
            <Facts of={[
              ["Model", job.model && <Resource of={job.model} />],
              ["Endpoint", job.endpoint && <Resource of={job.endpoint} />],
              ["Experiment", job.experiment], ["Metrics", job.metrics_uri],
            ]} />
            {job.checkpoints.length > 0 && (
              <table className="tj-table tj-small" style={{ marginTop: 12 }}>
                <thead><tr><th>Checkpoint</th><th>Epoch</th><th>Step</th><th>Endpoint</th></tr></thead>
                <tbody>
                  {job.checkpoints.map((one) => (
                    <tr key={one.checkpoint_id}>
                      <td>{one.checkpoint_id}</td><td>{one.epoch}</td><td>{one.step}</td>
                      <td>{one.endpoint && <Resource of={{ ...one.endpoint, name: one.endpoint.name.split("/").pop()! }} />}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )}
          </Card>
        )}
        {(job.examples !== null || job.histograms.length > 0) && (
          <Card title="Training data">
            <Facts of={[
              ["Examples", whole(job.examples)],
              ["Dropped", job.dropped_count ? whole(job.dropped_count) : null],
              ["Truncated", job.truncated_count ? whole(job.truncated_count) : null],
              ["Billable tokens", job.tokens !== null && `${whole(job.tokens)} (${job.tokens_in_words || "one pass"})`],
            ]} />
            {job.dropped.length > 0 && (
              <Fragment>
                <p style={{ margin: "10px 0 0" }}>Why examples were dropped:</p>
                <ul className="tj-list">{job.dropped.map((reason, at) => <li key={at}>{reason}</li>)}</ul>
              </Fragment>
            )}
            <div className="tj-stack" style={{ marginTop: 14 }}>{job.histograms.map((one) => <Bars key={one.title} of={one} />)}</div>
          </Card>
        )}
      </div>
      <details className="tj-panel tj-card">
        <summary>The job as Google's API tells it (JSON)</summary>
        <pre className="tj-raw" tabIndex={0}>{JSON.stringify(job.raw, null, 2)}</pre>
      </details>
    </div>
  );
}
