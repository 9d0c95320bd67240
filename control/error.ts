/** An error for people: a stable code, what was wrong with which input, and what to do about it. */
export class TortieError extends Error {
  readonly code: string;
  /** Exit status of a command that fails with it (sysexits.h where one fits). */
  readonly exitCode: number;
  constructor(code: string, message: string, exitCode = 1, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TortieError';
    this.code = code;
    this.exitCode = exitCode;
  }
}
/** sysexits.h: configuration error. */
export const EX_CONFIG = 78;
/** sysexits.h: input data was wrong. */
export const EX_DATAERR = 65;
/** sysexits.h: an input file was not there. */
export const EX_NOINPUT = 66;
/** sysexits.h: an output file cannot be made. */
export const EX_CANTCREAT = 73;
/** sysexits.h: something could not be written. */
export const EX_IOERR = 74;
/** sysexits.h: service unavailable. */
export const EX_UNAVAILABLE = 69;
/** sysexits.h: permission denied. */
export const EX_NOPERM = 77;
/** sysexits.h: command line used wrongly. */
export const EX_USAGE = 64;
