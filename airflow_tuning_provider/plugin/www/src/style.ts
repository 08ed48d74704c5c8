// The host's colours, so that dark mode and custom themes hold; the fallbacks are for a host that renames them.
const color = (name: string, fallback: string) => `var(--chakra-colors-${name}, ${fallback})`;
const edge = color("border", "#d4d4d8");
const muted = color("fg-muted", "#52525b");
const fg = color("fg", "#18181b");
const bg = color("bg", "#fff");
const subtle = color("bg-subtle", "#f4f4f5");
const blue = color("blue-solid", "#2563eb");

export const STYLE = `
.tj { color: ${fg}; padding: 16px 20px 48px; font-size: 14px; line-height: 1.5; overflow-wrap: anywhere; width: 100%; max-width: 1500px; margin: 0 auto; box-sizing: border-box; }
.tj *, .tj *::before { box-sizing: border-box; }
.tj h1 { font-size: 22px; font-weight: 700; margin: 0; line-height: 1.3; }
.tj h2 { font-size: 15px; font-weight: 600; margin: 0 0 10px; }
.tj a { color: ${color("blue-fg", "#1d4ed8")}; text-decoration: none; }
.tj a:hover, .tj .tj-link:hover { text-decoration: underline; }
.tj .tj-link { background: none; border: 0; padding: 0; font: inherit; font-weight: 600; color: ${color("blue-fg", "#1d4ed8")}; cursor: pointer; text-align: left; }
.tj :focus-visible { outline: 2px solid ${blue}; outline-offset: 2px; border-radius: 4px; }
.tj-head { display: flex; flex-wrap: wrap; gap: 8px 16px; align-items: center; margin-bottom: 14px; }
.tj-grow { flex: 1 1 auto; min-width: 0; }
.tj-muted { color: ${muted}; font-size: 13px; }
.tj .tj-muted a { text-decoration: underline; }
.tj-bar { display: grid; grid-template-columns: minmax(210px, 1.6fr) repeat(2, minmax(120px, .7fr)) repeat(2, minmax(140px, 1fr)); gap: 10px; margin-bottom: 12px; }
.tj-field { display: flex; flex-direction: column; gap: 3px; font-size: 12px; font-weight: 500; color: ${muted}; min-width: 0; }
.tj input, .tj select { font: inherit; font-size: 14px; font-weight: 400; color: ${fg}; background: ${bg}; border: 1px solid ${color("border-emphasized", "#a1a1aa")}; border-radius: 6px; height: 36px; padding: 0 10px; width: 100%; min-width: 0; }
.tj-button { font: inherit; font-weight: 500; color: ${fg}; background: ${bg}; border: 1px solid ${color("border-emphasized", "#a1a1aa")}; border-radius: 6px; min-height: 36px; padding: 0 14px; cursor: pointer; }
.tj-button:hover:enabled { background: ${subtle}; }
.tj-button:disabled { opacity: .55; cursor: default; }
.tj-danger { background: ${color("red-solid", "#dc2626")}; border-color: transparent; color: #fff; }
.tj-danger:hover:enabled { background: ${color("red-700", "#b91c1c")}; }
.tj-panel { border: 1px solid ${edge}; border-radius: 10px; background: ${bg}; }
.tj-table { width: 100%; border-collapse: collapse; }
.tj-table th { text-align: left; font-size: 12px; font-weight: 600; color: ${muted}; padding: 9px 12px; border-bottom: 1px solid ${edge}; background: ${subtle}; white-space: nowrap; }
.tj-table th:first-child { border-top-left-radius: 10px; } .tj-table th:last-child { border-top-right-radius: 10px; }
.tj-table td { padding: 10px 12px; border-bottom: 1px solid ${edge}; vertical-align: top; }
.tj-table tr:last-child td { border-bottom: 0; }
.tj-table tbody tr:hover { background: ${subtle}; }
.tj-state { display: inline-flex; align-items: center; gap: 7px; font-weight: 600; white-space: nowrap; }
.tj-state::before { content: ""; width: 9px; height: 9px; border-radius: 50%; background: currentColor; flex: none; }
.tj-good::before { color: ${color("green-solid", "#16a34a")}; } .tj-bad::before { color: ${color("red-solid", "#dc2626")}; }
.tj-busy::before { color: ${blue}; } .tj-off::before { color: ${color("gray-400", "#a1a1aa")}; }
.tj-busy::before { animation: tj-pulse 1.8s ease-in-out infinite; }
@keyframes tj-pulse { 50% { opacity: .35; } }
@media (prefers-reduced-motion: reduce) { .tj-busy::before { animation: none; } }
.tj-meter { height: 5px; border-radius: 3px; background: ${color("bg-emphasized", "#e4e4e7")}; margin-top: 5px; max-width: 170px; overflow: hidden; }
.tj-meter div { height: 100%; background: ${blue}; }
.tj-note { border: 1px solid ${edge}; border-left: 4px solid ${blue}; border-radius: 8px; background: ${color("bg-muted", "#f4f4f5")}; padding: 11px 14px; margin-bottom: 12px; }
.tj-note.tj-wrong { border-left-color: ${color("red-solid", "#dc2626")}; }
.tj-note p { margin: 3px 0 0; white-space: pre-wrap; }
.tj-empty { padding: 44px 20px; text-align: center; }
.tj-empty p { margin: 6px auto 0; max-width: 560px; }
.tj-pager { display: flex; gap: 8px; justify-content: flex-end; margin-top: 12px; }
.tj-grid { columns: 2 400px; column-gap: 14px; }
.tj-grid .tj-card { break-inside: avoid; margin-bottom: 14px; }
.tj-card { padding: 14px 16px; min-width: 0; }
.tj-facts { display: grid; grid-template-columns: minmax(110px, auto) minmax(0, 1fr); gap: 5px 16px; margin: 0; }
.tj-facts dt { color: ${muted}; } .tj-facts dd { margin: 0; }
.tj-phases { list-style: none; margin: 0; padding: 0; }
.tj-phases li { border-left: 2px solid ${edge}; padding: 0 0 14px 16px; position: relative; margin-left: 5px; }
.tj-phases li:last-child { padding-bottom: 0; border-color: transparent; }
.tj-phases li::before { content: ""; position: absolute; left: -6px; top: 5px; width: 10px; height: 10px; border-radius: 50%; background: ${muted}; }
.tj-phases li.tj-now::before { background: ${blue}; }
.tj-raw { max-height: 480px; overflow: auto; font-size: 12px; background: ${subtle}; border-radius: 6px; padding: 12px; white-space: pre-wrap; margin: 10px 0 0; }
.tj summary { cursor: pointer; font-weight: 600; }
.tj dialog { color: ${fg}; background: ${bg}; border: 1px solid ${edge}; border-radius: 12px; padding: 20px; max-width: min(620px, calc(100vw - 24px)); width: 100%; margin: auto; max-height: 84vh; overflow: auto; }
.tj dialog::backdrop { background: rgb(0 0 0 / .5); }
.tj-row { display: flex; flex-wrap: wrap; gap: 8px; justify-content: flex-end; margin-top: 18px; }
.tj-list { margin: 12px 0 0; padding: 0; list-style: none; }
.tj-list li { border-top: 1px solid ${edge}; padding: 8px 0; }
.tj svg { display: block; width: 100%; max-width: 440px; height: auto; }
.tj-out { white-space: nowrap; } .tj-narrow { display: none; }
.tj svg rect { fill: ${blue}; } .tj svg text { fill: ${muted}; font-size: 11px; }
.tj-stack { display: grid; gap: 14px; }
@media (max-width: 900px) {
  .tj { padding: 12px 12px 40px; }
  .tj-bar { grid-template-columns: 1fr 1fr; } .tj-bar .tj-wide { grid-column: 1 / -1; }
  .tj-table, .tj-table tbody, .tj-table tr, .tj-table td { display: block; }
  .tj-table thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .tj-table tr { padding: 10px 12px; border-bottom: 1px solid ${edge}; } .tj-table tr:last-child { border-bottom: 0; }
  .tj-table td { border: 0; padding: 2px 0; } .tj-table td:empty { display: none; }
  .tj-narrow { display: inline; }
  .tj-small th, .tj-small td { padding: 2px 0; }
}
`;
