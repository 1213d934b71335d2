import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tensor } from '@heed/core';
import { afterEach, expect, test } from 'vitest';
import { openSafetensors } from '../../src/weights/safetensors/read.ts';
import { safetensorsOf } from '../../src/weights/safetensors/write.ts';
import { httpSource } from '../../src/weights/sources/http.ts';
import { bytesOf } from './bytes-of.ts';

const large = tensor(Float32Array.from({ length: 5000 }, (_, place) => place), [5000]);
const bytes = await bytesOf(safetensorsOf({ large, small: tensor([1, 2], [2]) }));

let server: Server | undefined;
afterEach(() => server?.close());

/** Serves the file on this machine, and keeps the ranges that were asked for. */
async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const started = createServer(answer);
  server = started;
  await new Promise<void>((resolve) => started.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(started.address() as AddressInfo).port}/model.safetensors`;
}

function ranges(asked: string[]): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    const range = request.headers.range ?? '';
    asked.push(range);
    const [, first = '', last = ''] = /bytes=(\d+)-(\d+)/.exec(range) ?? [];
    const end = Math.min(Number(last), bytes.length - 1);
    response.writeHead(206, { 'content-range': `bytes ${first}-${end}/${bytes.length}` });
    response.end(bytes.subarray(Number(first), end + 1));
  };
}

test('only the ranges of what is read are asked for, the header’s once', async () => {
  const asked: string[] = [];
  const file = await openSafetensors(httpSource(await serve(ranges(asked)), { fetch, firstBytes: 300 }));
  expect(asked).toEqual(['bytes=0-299']);
  expect([...(await file.read('small')).view()]).toEqual([1, 2]);
  expect(asked).toHaveLength(2);
  expect([...(await file.read('large')).view()]).toEqual([...large.view()]);
});

test('a first request longer than the file is fine', async () => {
  const file = await openSafetensors(httpSource(await serve(ranges([])), { fetch }));
  expect([...(await file.read('small')).view()]).toEqual([1, 2]);
});

test('a server that sends no ranges, the wrong ones, or an error is refused, and asked again the next time', async () => {
  let broken = true;
  const url = await serve((request, response) => {
    if (broken) response.writeHead(200).end(bytes);
    else ranges([])(request, response);
  });
  const source = httpSource(url, { fetch, firstBytes: 64 });
  await expect(source.size()).rejects.toMatchObject({ code: 'invalid-file', message: expect.stringContaining('200') as string });
  broken = false;
  expect(await source.size()).toBe(bytes.length);
  await expect(source.read(bytes.length - 2, 4)).rejects.toMatchObject({ code: 'invalid-file' });
  const wrong = await serve((_request, response) => response.writeHead(206, { 'content-range': `bytes 1-9/${bytes.length}` }).end(bytes.subarray(1, 10)));
  await expect(httpSource(wrong, { fetch }).size()).rejects.toMatchObject({ code: 'invalid-file' });
});
