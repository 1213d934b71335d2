import { EventEmitter } from 'node:events';
import { createReadStream, existsSync } from 'node:fs';
import { createServer, type IncomingMessage, type OutgoingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';

export interface PageServer {
  /** `http://127.0.0.1:PORT` */
  readonly origin: string;
  /** The verdict that the page sent, as JSON text. Rejects with what the page sent as its failure. */
  readonly verdict: Promise<string>;
  readonly close: () => void;
}

const types: Readonly<Record<string, string>> = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript' };

/** Scripts and workers of this server alone, WebAssembly, and no eval. */
const policy = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'";

/** Serves the files of `folder` on loopback, with a Content-Security-Policy; cross-origin isolated where asked, so that memory may be shared. */
export async function servePage(folder: string, isolated: boolean): Promise<PageServer> {
  const headers: OutgoingHttpHeaders = {
    'content-security-policy': policy,
    ...(isolated ? { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' } : {}),
  };
  const answers = new EventEmitter<{ verdict: [string]; failure: [string] }>();
  const verdict = new Promise<string>((resolve, reject) => {
    answers.once('verdict', resolve).once('failure', (text) => {
      reject(new Error(text));
    });
  });
  // Nobody waits when the browser did not start.
  verdict.catch(() => undefined);
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://page').pathname;
    if (request.method === 'POST') {
      void textOf(request).then((text) => {
        answers.emit(path === '/verdict' ? 'verdict' : 'failure', text);
        response.writeHead(204, headers).end();
      });
      return;
    }
    const file = join(folder, normalize(path));
    if (!existsSync(file)) {
      response.writeHead(path === '/favicon.ico' ? 204 : 404, headers).end();
      return;
    }
    response.writeHead(200, { ...headers, 'content-type': types[extname(file)] ?? 'application/octet-stream' });
    createReadStream(file).pipe(response);
  });
  await new Promise<void>((listening) => {
    server.listen(0, '127.0.0.1', listening);
  });
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    verdict,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function textOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString('utf8');
}
