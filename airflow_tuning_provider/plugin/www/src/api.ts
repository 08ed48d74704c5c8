// The page's own routes. Their shapes are made in ../desk.py and ../shown.py.

export type Place = { connection: string; project: string; location: string };
export type Linked = { name: string; url: string } | null;
export type Creator = { dag_id: string; run_id: string; task_id: string; map_index: number; state: string | null };
export type Row = {
  name: string; id: string; display_name: string; state: string; tone: "good" | "bad" | "off" | "busy";
  state_in_words: string; active: boolean; since: string; progress: string; done: number | null; created: string;
  create_time: string | null; base_model: string; kind: string; dag: string; run: string; task: string;
  dataset: string; tokens: number | null; tokens_in_words: string; error: string; console_url: string | null;
  creator: Creator | null; dag_id: string | null; gone: boolean; may_cancel: boolean;
};
export type Phase = { what: string; from: string; seconds: number | null; in_words: string; going_on: boolean };
export type Histogram = {
  title: string; bars: { count: number; left: number | null; right: number | null }[];
  min: number | null; median: number | null; mean: number | null; p95: number | null; max: number | null;
};
export type Job = Row & {
  description: string; timeline: Phase[]; failure: { title: string; message: string; advice: string } | null;
  dropped: string[]; dropped_count: number | null; truncated_count: number | null; examples: number | null;
  hyper_parameters: { name: string; value: string }[]; histograms: Histogram[]; model: Linked; endpoint: Linked;
  checkpoints: { checkpoint_id: string | null; epoch: number | null; step: number | null; endpoint: Linked }[];
  experiment: string; metrics_uri: string; raw: unknown;
};
export type Trouble = { title: string; advice: string; details: string; kind: string };
export type Listing = { place: Place | null; jobs: Row[]; next_page: string | null; age: number; trouble?: Trouble };
export type Places = { places: (Place & { dags: string[] })[]; connections: string[] };
export type Orphan = { name: string; id: string; display_name: string; created: string; why: string; outcome: string };
export type Orphans = { place: Place; looked_at: number; orphans: Orphan[]; cancelled: string[]; may_cancel: boolean };

export class Refused extends Error {
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

// Below the sub-path that the host names in <base href>.
export const address = (path: string) => new URL(path, document.baseURI).href;

async function answer<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(address(`tuning-jobs/api/${path}`), { credentials: "same-origin", ...init });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new Refused(0, "Airflow's API server cannot be reached. The page tries again by itself.");
  }
  if (response.ok) return (await response.json()) as T;
  if (response.status === 401) throw new Refused(401, "Your session has expired.");
  const body = (await response.json().catch(() => null)) as { detail?: unknown } | null;
  const text = typeof body?.detail === "string" ? body.detail : `Airflow's API server answered ${response.status}.`;
  throw new Refused(response.status, text);
}

export const get = <T>(path: string, query: Record<string, string>, signal?: AbortSignal) => {
  const given = Object.entries(query).filter(([, value]) => value);
  return answer<T>(`${path}?${new URLSearchParams(given)}`, { signal });
};

export const post = <T>(path: string, body: unknown) =>
  answer<T>(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Requested-With": "tuning-jobs" },
    body: JSON.stringify(body),
  });
