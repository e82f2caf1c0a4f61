// What a browser keeps for us: in the tab, or on the device. A browser that keeps nothing (it may be told to) is no reason not
// to start.

function shelf(name) {
  const get = () => {
    try {
      return window[name];
    } catch {
      return null;
    }
  };
  return {
    read(key) {
      try {
        return get()?.getItem(key) ?? null;
      } catch {
        return null;
      }
    },
    write(key, text) {
      try {
        get()?.setItem(key, text);
      } catch {
        // Full, or forbidden: it is asked for again next time.
      }
    },
    drop(key) {
      try {
        get()?.removeItem(key);
      } catch {
        // There is nothing.
      }
    },
  };
}

export const tab = shelf("sessionStorage");
export const device = shelf("localStorage");
