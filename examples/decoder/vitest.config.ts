import { unit } from '@heed/vitest-config';

export default unit();
