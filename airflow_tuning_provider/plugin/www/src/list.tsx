import { get, type Listing, type Place, type Places } from "./api";
import { OrphanDialog } from "./orphans";
import { local, Origin, Out, State, titleOf, whole, Wrong } from "./parts";
import type { Query } from "./query";
import { Fragment, h, useCallback, useEffect, useRef, useState } from "./react";

const REFRESH = 15000;
const TRY_AGAIN = 60000;
const id = (place: Place) => JSON.stringify([place.connection, place.project, place.location]);

function label(place: Place): string {
  const where = [place.project, place.location].filter(Boolean).join(" · ");
  return where ? `${where} (${place.connection})` : `${place.connection} (its own project and location)`;
}

function PlaceField({ places, here, change }: { places: Places | null; here: Place | null; change: (to: Partial<Query>) => void }) {
  const all = new Map<string, Place>();
  for (const place of places?.places ?? []) all.set(id(place), place);
  for (const connection of places?.connections ?? []) {
    const place = { connection, project: "", location: "" };
    all.set(id(place), place);
  }
  if (here) all.set(id(here), here);
  return (
    <label className="tj-field tj-wide">
      Where
      <select value={here ? id(here) : ""} onChange={(event) => change({ ...all.get(event.target.value)!, page: "" })}>
        {!here && <option value="">nowhere yet</option>}
        {[...all].map(([key, place]) => <option key={key} value={key}>{label(place)}</option>)}
      </select>
    </label>
  );
}

function Text({ name, value, set }: { name: string; value: string; set: (to: string) => void }) {
  const [typed, setTyped] = useState(value);
  const known = useRef(value);
  useEffect(() => {
    if (value !== known.current) setTyped(value); // changed by a link or the back button
    known.current = value;
  }, [value]);
  useEffect(() => {
    if (typed === known.current) return undefined;
    const timer = window.setTimeout(() => { known.current = typed; set(typed); }, 350);
    return () => window.clearTimeout(timer);
  }, [typed, set]);
  return (
    <label className="tj-field">{name}<input type="search" value={typed} onChange={(event) => setTyped(event.target.value)} /></label>
  );
}

export function List({ query, change }: { query: Query; change: (to: Partial<Query>, replace?: boolean) => void }) {
  const [places, setPlaces] = useState<Places | null>(null);
  const [listing, setListing] = useState<Listing | null>(null);
  const [wrong, setWrong] = useState<Error | null>(null);
  const [loading, setLoading] = useState(true);
  const [orphans, setOrphans] = useState(false);
  const running = useRef<AbortController | null>(null);
  const { job: _, ...wanted } = query;
  const key = JSON.stringify(wanted);

  const load = useCallback(async (how: { fresh?: boolean; quiet?: boolean }) => {
    running.current?.abort();
    const mine = (running.current = new AbortController());
    if (!how.quiet) setLoading(true);
    try {
      setListing(await get<Listing>("jobs", { ...JSON.parse(key), fresh: how.fresh ? "true" : "" }, mine.signal));
      setWrong(null);
    } catch (error) {
      if ((error as Error).name === "AbortError") return;
      setWrong(error as Error);
      if (!how.quiet) setListing(null);
    }
    setLoading(false);
  }, [key]);

  useEffect(() => {
    void load({});
    return () => running.current?.abort();
  }, [load]);
  useEffect(() => void get<Places>("places", {}).then(setPlaces, () => undefined), []);

  const active = listing?.jobs.some((job) => job.active) ?? false;
  const pause = wrong || listing?.trouble ? TRY_AGAIN : active ? REFRESH : 0;
  useEffect(() => {
    if (!pause) return undefined;
    const timer = window.setInterval(() => document.visibilityState === "visible" && void load({ quiet: true }), pause);
    return () => window.clearInterval(timer);
  }, [pause, load]);

  const here = listing?.place ?? null;
  const setDag = useCallback((dag: string) => change({ dag, run: "", task: "", page: "" }, true), [change]);
  const setText = useCallback((text: string) => change({ text, page: "" }, true), [change]);
  return (
    <Fragment>
      <div className="tj-head">
        <h1 className="tj-grow">Tuning jobs</h1>
        <span className="tj-muted" aria-live="polite">
          {loading ? "Asking Google …" : listing && !listing.trouble && here ? (listing.age < 2 ? "up to date" : `as of ${listing.age} s ago`) : ""}
        </span>
        <button type="button" className="tj-button" disabled={!here} onClick={() => setOrphans(true)}>Find orphans…</button>
        <button type="button" className="tj-button" disabled={loading} onClick={() => void load({ fresh: true })}>Refresh</button>
      </div>
      <div className="tj-bar" role="search" aria-label="Which jobs">
        <PlaceField places={places} here={here} change={change} />
        <label className="tj-field">
          Created
          <select value={query.days || "30"} onChange={(event) => change({ days: event.target.value, page: "" })}>
            {[["1", "in the last day"], ["7", "in the last 7 days"], ["30", "in the last 30 days"], ["90", "in the last 90 days"], ["3650", "at any time"]]
              .map(([value, text]) => <option key={value} value={value}>{text}</option>)}
          </select>
        </label>
        <label className="tj-field">
          State
          <select value={query.state} onChange={(event) => change({ state: event.target.value, page: "" })}>
            {[["", "any"], ["active", "under way"], ["succeeded", "succeeded"], ["failed", "failed"], ["cancelled", "cancelled"]]
              .map(([value, text]) => <option key={value} value={value}>{text}</option>)}
          </select>
        </label>
        <Text name="DAG" value={query.dag} set={setDag} />
        <Text name="Text on this page" value={query.text} set={setText} />
      </div>
      {(query.run || query.task) && (
        <div className="tj-note">
          Only jobs of {query.task && <Fragment>task <strong>{query.task}</strong></Fragment>}
          {query.run && <Fragment> of run <strong>{query.run}</strong></Fragment>}.{" "}
          <button type="button" className="tj-link" onClick={() => change({ run: "", task: "", page: "" })}>Show all of the DAG</button>
        </div>
      )}
      {wrong && <Wrong trouble={wrong} />}
      {listing?.trouble && <Wrong trouble={listing.trouble} />}
      {listing && !listing.trouble && <Jobs listing={listing} query={query} change={change} />}
      {(query.page || listing?.next_page) && (
        <nav className="tj-pager" aria-label="Pages">
          {query.page && <button type="button" className="tj-button" onClick={() => change({ page: "" })}>Newest</button>}
          {listing?.next_page && (
            <button type="button" className="tj-button" disabled={loading} onClick={() => { change({ page: listing.next_page! }); window.scrollTo(0, 0); }}>
              Next page
            </button>
          )}
        </nav>
      )}
      {orphans && here && <OrphanDialog place={here} onClose={() => { setOrphans(false); void load({ quiet: true, fresh: true }); }} />}
    </Fragment>
  );
}

function Jobs({ listing, query, change }: { listing: Listing; query: Query; change: (to: Partial<Query>) => void }) {
  if (!listing.jobs.length) {
    const narrowed = query.state || query.dag || query.run || query.task || query.text;
    return (
      <div className="tj-panel tj-empty">
        <strong>{listing.place ? "No tuning jobs to show" : "No tuning jobs yet"}</strong>
        <p className="tj-muted">
          {!listing.place ? "No DAG that you may read has created a tuning job so far."
            : listing.next_page ? "None on this page of Google's list; there may be some on the next."
            : narrowed ? "None of this time that you may see has all that is asked for. Clear a filter, or look further back."
            : "None of this time that you may see. Look further back, or elsewhere."}
        </p>
      </div>
    );
  }
  return (
    <div className="tj-panel">
      <table className="tj-table">
        <thead><tr><th>Job</th><th>State</th><th>Created by</th><th>Training data</th><th>Created</th><th>Google</th></tr></thead>
        <tbody>
          {listing.jobs.map((job) => (
            <tr key={job.name}>
              <td>
                <button type="button" className="tj-link" onClick={() => change({ ...listing.place!, job: job.name })}>{titleOf(job)}</button>
                <div className="tj-muted">{[job.base_model, job.kind].filter(Boolean).join(" · ")}</div>
              </td>
              <td><State job={job} />{job.error && <div className="tj-muted" style={{ maxWidth: 360 }}>{job.error}</div>}</td>
              <td><Origin job={job} /></td>
              <td>
                {job.dataset}
                {job.tokens !== null && <div className="tj-muted" title={job.tokens_in_words}>{whole(job.tokens)} tokens</div>}
              </td>
              <td title={local(job.create_time)} style={{ whiteSpace: "nowrap" }}><span className="tj-narrow">created </span>{job.created}</td>
              <td className="tj-out">{job.console_url && <Out to={job.console_url}>Console</Out>}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
