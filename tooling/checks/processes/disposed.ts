// Runs once and disposes.
import { createBackend, say, smallCall } from './calls.ts';

const backend = await createBackend();
await smallCall(backend);
await backend.dispose();
say('over');
