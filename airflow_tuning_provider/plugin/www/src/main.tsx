import { Detail } from "./detail";
import { List } from "./list";
import { useQuery } from "./query";
import { h } from "./react";
import { STYLE } from "./style";

function TuningJobs() {
  const [query, change] = useQuery();
  return (
    <div className="tj">
      <style>{STYLE}</style>
      {query.job ? (
        <Detail key={query.job} connection={query.connection} name={query.job} onBack={() => change({ job: "" })} />
      ) : (
        <List query={query} change={change} />
      )}
    </div>
  );
}

// The host looks under the plugin's name first, then under the name that all plugins share.
Object.assign(globalThis, { "Tuning jobs": TuningJobs, AirflowPlugin: TuningJobs });
