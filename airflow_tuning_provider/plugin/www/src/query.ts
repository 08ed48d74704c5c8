// The state of the page is its query string: a link to it can be sent to a colleague.
import { useCallback, useEffect, useState } from "./react";

export const KEYS = [
  "connection", "project", "location", "days", "state", "dag", "run", "task", "text", "page", "job",
] as const;
export type Query = Record<(typeof KEYS)[number], string>;

const read = (): Query => {
  const given = new URLSearchParams(window.location.search);
  return Object.fromEntries(KEYS.map((key) => [key, given.get(key) ?? ""])) as Query;
};

export function useQuery(): [Query, (change: Partial<Query>, replace?: boolean) => void] {
  const [query, setQuery] = useState(read);
  useEffect(() => {
    const back = () => setQuery(read());
    window.addEventListener("popstate", back);
    return () => window.removeEventListener("popstate", back);
  }, []);
  const change = useCallback((given: Partial<Query>, replace = false) => {
    const next = { ...read(), ...given };
    const text = new URLSearchParams(Object.entries(next).filter(([, value]) => value)).toString();
    const url = window.location.pathname + (text ? `?${text}` : "");
    window.history[replace ? "replaceState" : "pushState"](window.history.state, "", url);
    setQuery(next);
  }, []);
  return [query, change];
}
