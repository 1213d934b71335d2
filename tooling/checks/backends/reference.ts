export { createReferenceBackend as createBackend } from '@heed/core/reference';
