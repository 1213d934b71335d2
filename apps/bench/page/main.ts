/** The bench as a page: a form, and the report that the command line writes. */
import { benchDtypes } from '../src/dtypes.ts';
import { renderPage } from '../src/page.ts';
import type { Progress } from '../src/progress.ts';
import type { Report } from '../src/results.ts';
import { measureHere, pageSources, subjects, type Asked } from './measure-here.ts';

function element<T extends HTMLElement>(selector: string, kind: new () => T): T {
  const found = document.querySelector(selector);
  if (!(found instanceof kind)) throw new TypeError(`The page has no ${selector}.`);
  return found;
}

const form = element('form', HTMLFormElement);
const button = element('button', HTMLButtonElement);
const output = element('output', HTMLOutputElement);
const bar = element('progress', HTMLProgressElement);
const reportSection = element('#report', HTMLElement);
const frame = element('iframe', HTMLIFrameElement);

/** Measured unless the address says otherwise: what a GPU is compared with. */
const usual: ReadonlySet<string> = new Set(['cpu', 'webgpu', 'onnxruntime-web', 'tfjs', 'jax-js']);

/** Fills the form; the address says what is chosen, as a form of the browser would write it. */
function fill(address: URLSearchParams): void {
  options('select[name=suite]', subjects, address.get('suite'));
  options('select[name=dtype]', benchDtypes, address.get('dtype'));
  for (const name of ['only', 'seconds']) {
    const given = address.get(name);
    if (given !== null) element(`input[name=${name}]`, HTMLInputElement).value = given;
  }
  const named = address.getAll('competitor');
  for (const { name, role } of pageSources) {
    const label = document.createElement('label');
    const box = Object.assign(document.createElement('input'), { type: 'checkbox', name: 'competitor', value: name, checked: named.length === 0 ? usual.has(name) : named.includes(name) });
    label.append(box, name);
    element(`[data-role=${role}]`, HTMLElement).append(label);
  }
}

function options(selector: string, values: readonly string[], chosen: string | null): void {
  element(selector, HTMLSelectElement).append(...values.map((value) => new Option(value, value, value === chosen, value === chosen)));
}

function read(): Asked {
  const data = new FormData(form);
  const text = (name: string): string => {
    const value = data.get(name);
    return typeof value === 'string' ? value : '';
  };
  return {
    suite: text('suite'),
    only: text('only').trim(),
    dtype: benchDtypes.find((dtype) => dtype === text('dtype')) ?? 'f32',
    seconds: Number(text('seconds')),
    competitors: data.getAll('competitor').filter((value) => typeof value === 'string'),
  };
}

const progress: Progress = {
  step: (message, done) => {
    output.value = message;
    bar.value = done;
  },
  line: (message) => (output.value = message),
  finish: () => (bar.hidden = true),
};

function offer(selector: string, content: string, type: string): void {
  const link = element(selector, HTMLAnchorElement);
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([content], { type }));
}

function show(report: Report): void {
  const page = renderPage(report);
  offer('#json', `${JSON.stringify(report, null, 2)}\n`, 'application/json');
  offer('#page', page, 'text/html');
  reportSection.hidden = false;
  frame.srcdoc = page;
  frame.onload = () => {
    const inner = frame.contentDocument?.documentElement;
    if (inner === undefined) return;
    new ResizeObserver(() => (frame.style.height = `${inner.scrollHeight}px`)).observe(inner);
  };
}

async function run(): Promise<void> {
  button.disabled = true;
  bar.hidden = false;
  output.classList.remove('bad');
  document.documentElement.dataset.state = 'running';
  try {
    show(await measureHere(read(), progress));
    output.value = '';
    document.documentElement.dataset.state = 'done';
  } catch (error) {
    output.value = error instanceof Error ? error.message : String(error);
    output.classList.add('bad');
    document.documentElement.dataset.state = 'failed';
  } finally {
    button.disabled = false;
    bar.hidden = true;
  }
}

const address = new URLSearchParams(location.search);
fill(address);
form.addEventListener('submit', (event) => {
  event.preventDefault();
  const written = [...new FormData(form)].flatMap(([name, value]) => (typeof value === 'string' && value !== '' ? [[name, value]] : []));
  history.replaceState(null, '', `?${new URLSearchParams(written).toString()}`);
  void run();
});
// An address with `run` measures at once.
if (address.has('run')) void run();
