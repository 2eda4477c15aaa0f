// What the panels of one view call the state: a plain anywidget model, as any host gives it (get, set, on, off,
// save_changes, send), with what the view has of its own, its tab and its open card, and `shared`, what the views
// of one model have in common beside the traits.

const VIEWS_OWN = new Set(["change:tab", "change:card", "change:projected"]);
const WITHOUT_WORK = "layer"; // the one that the kernel computes nothing for
const BY_KEY = new Map(); // by the model's `key`: some hosts load this module once for several models

function sharedBy(key) {
  if (!BY_KEY.has(key)) BY_KEY.set(key, { sent: false, timer: 0, views: new Set() });
  return BY_KEY.get(key);
}

// Tells the kernel which tabs somebody looks at, here or in another page, which keeps its own in the same list.
function tellTabs(model, shared, left = "") {
  const here = [...shared.views].flatMap((view) => [view.get("tab"), view.also]).filter((tab) => tab && tab !== WITHOUT_WORK);
  const before = model.get("tabs") ?? [];
  const now = [...new Set([...before.filter((tab) => tab !== left), ...here])].sort();
  if (String(now) === String(before)) return false;
  model.set("tabs", now);
  return true;
}

export function lookAlso(state, tab) {
  if (!state.shared.views || state.also === tab) return;
  const left = state.also;
  state.also = tab;
  if (tellTabs(state, state.shared, left)) state.save_changes();
}

export function viewState(model, el) {
  const shared = sharedBy(model.get("key"));
  const heard = new Map();
  let tab = model.get("tab") || WITHOUT_WORK;
  const state = {
    shared,
    place: el,
    card: "",
    projected: false,
    plot: "spectrum", // that is projected
    also: "", // a tab that the view needs the kernel's work for without standing on it
    // A Jupyter host marks the element of a view without a kernel; others have none that could go.
    get comm_live() {
      return !el.classList.contains("jupyter-widgets-disconnected");
    },
    get: (name) => (name === "tab" ? tab : model.get(name)),
    set(name, value) {
      const given = typeof name === "string" ? { [name]: value } : name;
      for (const [key, one] of Object.entries(given)) model.set(key, one);
      if (given.tab === undefined || given.tab === tab) return;
      const left = tab;
      tab = given.tab;
      tellTabs(model, shared, left);
      state.hear("change:tab");
    },
    on(event, hear) {
      if (!heard.has(event)) heard.set(event, new Set());
      heard.get(event).add(hear);
      if (!VIEWS_OWN.has(event)) model.on(event, hear);
    },
    off(event, hear) {
      heard.get(event)?.delete(hear);
      if (!VIEWS_OWN.has(event)) model.off(event, hear);
    },
    hear: (event) => [...(heard.get(event) ?? [])].forEach((hear) => hear()),
    // An event of the page: a view's own is heard in it alone, any other in every view of the model.
    trigger: (event) => (VIEWS_OWN.has(event) ? [state] : [...shared.views]).forEach((view) => view.hear(event)),
    save_changes: () => model.save_changes(),
    send: (content) => model.send(content),
  };
  const answered = () => (shared.sent = false);
  const told = () => tellTabs(model, shared) && state.comm_live && model.save_changes();
  const ears = [["change:progress", answered], ["change:error", answered], ["change:tabs", told]];
  if (!shared.views.size) shared.sent = false; // the answer came while nobody looked
  shared.views.add(state);
  ears.forEach(([event, hear]) => model.on(event, hear));
  told();
  state.end = () => {
    ears.forEach(([event, hear]) => model.off(event, hear));
    shared.views.delete(state);
    if (tellTabs(model, shared, tab) && state.comm_live) model.save_changes();
  };
  return state;
}
