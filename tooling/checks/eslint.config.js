import { program } from '@heed/eslint-config';

// Consumers are judged from outside, in the project they are copied to.
export default [{ ignores: ['consumers/'] }, ...program(import.meta.dirname)];
