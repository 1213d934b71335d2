import { program } from './index.ts';

export default program(import.meta.dirname);
