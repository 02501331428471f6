// The shop's clocks: times as they show them, and when a day of theirs begins.
const clocks = new Map();

const clock = (zone) => {
  if (!clocks.has(zone)) {
    const form = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" };
    clocks.set(zone, new Intl.DateTimeFormat("en-US", { ...form, timeZone: zone, hourCycle: "h23" }));
  }
  return clocks.get(zone);
};

// What they show at an instant (milliseconds), as 2026-11-21T09:30.
export const local = (at, zone) => {
  const said = Object.fromEntries(clock(zone).formatToParts(at).map(({ type, value }) => [type, value]));
  return `${said.year.padStart(4, "0")}-${said.month}-${said.day}T${said.hour}:${said.minute}`;
};

const offset = (at, zone) => Date.parse(`${local(at, zone)}Z`) - at;

// The instant (milliseconds) at which a day (2026-11-21) begins: of a midnight that comes twice the first; where there is
// none, when the clocks are put forward over it. As the server has it (events.programs.local_midnight).
export const beginning = (day, zone) => {
  const midnight = Date.parse(`${day}T00:00Z`);
  const [earlier, later] = [-86_400_000, 86_400_000].map((away) => midnight - offset(midnight + away, zone));
  const shown = (at) => midnight - offset(at, zone) === at;
  return !shown(earlier) && shown(later) ? later : earlier;
};
