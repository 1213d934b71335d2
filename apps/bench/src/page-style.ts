/** The style sheet of the page. Colours are variables, so that the plots follow light and dark as well. */
export const pageStyle = `
:root {
  --surface: #ffffff; --raised: #f6f7f9; --ink: #16191f; --soft: #5a6372; --axis: #aab2bf; --rule: #d5dae2; --bad: #c0262d;
  --backend-0: #2563c9; --backend-1: #0f8a7e; --backend-2: #8b46d6; --backend-3: #1f7a36; --backend-4: #b4317c;
  --peer-0: #b7791f; --peer-1: #7c6f5b; --peer-2: #a8563a; --peer-3: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --surface: #12151a; --raised: #1b2027; --ink: #e8ebf0; --soft: #9aa5b5; --axis: #566072; --rule: #333b47; --bad: #ff7b7b;
    --backend-0: #6ea2ff; --backend-1: #3fc9b8; --backend-2: #bd93ff; --backend-3: #5fca7d; --backend-4: #f283bd;
    --peer-0: #e0aa4e; --peer-1: #b5a68e; --peer-2: #dd8d70; --peer-3: #9ca3af;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--surface); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }
.kicker { margin: 0; color: var(--backend-0); font-weight: 600; letter-spacing: .04em; text-transform: uppercase; font-size: .8rem; }
h1 { margin: .2em 0 .3em; font-size: clamp(1.7rem, 4.6vw, 2.6rem); line-height: 1.15; letter-spacing: -.015em; text-wrap: balance; }
h2 { margin: 0; font-size: 1.1rem; }
.lead { margin: 0 0 .4em; font-size: 1.1rem; max-width: 62ch; }
.where { margin: 0; color: var(--soft); font-size: .9rem; }
.tiles { list-style: none; display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 28px 0 20px; padding: 0; }
.tiles li { display: flex; flex-direction: column; padding: 14px 16px; background: var(--raised); border-radius: 10px; }
.tiles .label, .tiles .note { color: var(--soft); font-size: .82rem; line-height: 1.35; }
.tiles .value { font-size: 1.6rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 20px; margin: 0 0 16px; padding: 0; font-size: .92rem; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 7px; vertical-align: -1px; }
.legend small { color: var(--soft); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 32px 36px; align-items: start; }
figure { margin: 0; padding-top: 14px; border-top: 1px solid var(--rule); }
figcaption p { margin: 2px 0 8px; color: var(--soft); font-size: .88rem; line-height: 1.4; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
section { margin-top: 44px; }
.scroll { overflow-x: auto; margin-top: 8px; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
th { text-align: left; color: var(--soft); font-weight: 500; }
th, td { padding: 4px 16px 4px 0; }
tbody tr:first-child th { border-top: 1px solid var(--rule); padding-top: 8px; }
.refusal { color: var(--soft); font-style: italic; }
.bad { color: var(--bad); font-weight: 600; }
.method { color: var(--soft); font-size: .92rem; }
.method h2 { color: var(--ink); }
.method li { margin: 4px 0; }
`;
