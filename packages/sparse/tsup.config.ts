import { library } from '@heed/tsup-config';

export default library();
