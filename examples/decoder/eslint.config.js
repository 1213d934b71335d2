import { program } from '@heed/eslint-config';

export default program(import.meta.dirname);
