// Runs once and leaves everything open: idle workers keep no process alive.
import { createBackend, say, smallCall } from './calls.ts';

const backend = await createBackend();
await smallCall(backend);
say('over');
