// Nothing waits for the call but what happens after it: a pending call keeps the process alive.
import { createBackend, longCall, say } from './calls.ts';

const backend = await createBackend();
void longCall(backend).then(() => {
  say('over');
});
say('called');
