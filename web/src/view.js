// Views are functions that give descriptions of elements (Preact); descriptions are written as templates (htm).
// Every module takes both from here, so that the libraries are named in one place.

import {h, render, Fragment} from "../vendor/preact/preact.mjs";
import htm from "../vendor/htm/htm.mjs";

export {
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useReducer,
  useRef,
  useState,
} from "../vendor/preact/hooks.mjs";
import {useEffect, useReducer} from "../vendor/preact/hooks.mjs";

export {Fragment, render};
export const html = htm.bind(h);

/** A value that views watch. `change` takes a function from the old value to the new. */
export function cell(first) {
  let value = first;
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const watcher of [...watchers]) watcher();
    },
    change(step) {
      this.set(step(value));
    },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

/** The value of a cell; the view is drawn anew when it changes. */
export function useCell(of) {
  const [, again] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    again();
    return of.watch(again);
  }, [of]);
  return of.get();
}
