import { library } from '@heed/eslint-config';

export default library(import.meta.dirname);
