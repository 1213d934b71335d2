/**
 * Makes WebGPU find an adapter in Node on Linux: the driver that VK_ICD_FILENAMES names, else SwiftShader, installed where that is allowed. A lane that promises
 * WebGPU fails without one.
 * @throws Error with the line that installs it
 */
export declare function provideAdapter(): void;
/**
 * What the results of a WebGPU lane depend on beside the sources: equal for equal drivers on one machine. Null where that cannot be told, and lanes run anew.
 */
export declare function adapterIdentity(): string | null;
