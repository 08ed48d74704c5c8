// The host's own React: Airflow 3.1 to 3.3 put it into globalThis before they load a plugin.
import type * as ReactTypes from "react";

const React = (globalThis as unknown as { React: typeof ReactTypes }).React;

export const h = React.createElement;
export const { Fragment, useCallback, useEffect, useRef, useState } = React;
export type Node = ReactTypes.ReactNode;
