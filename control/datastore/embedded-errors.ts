/** What goes wrong with an embedded store, in the words of kv.ts. */
import { statfsSync } from 'node:fs';
import { TortieError } from '../error.ts';

/** errno.h; LMDB gives numbers. */
const EACCES = 13;
const ENOSPC = 28;
const EROFS = 30;
/** With less than this on the file system, bytes, a write that fails did so for lack of room. */
const LITTLE_ROOM = 1024 * 1024;

/** `error` as it is told of the store in a folder. */
export function explained(folder: string, error: unknown): TortieError {
  if (error instanceof TortieError) return error;
  const { message, code } = error as { message: string; code?: string | number };
  const text = `${folder}: ${message}`;
  if (code === 'EACCES' || code === 'EPERM' || code === EACCES) {
    return new TortieError('STORE_DENIED', `${text}; run as the user that owns it, which is root`);
  }
  if (code === 'EROFS' || code === EROFS) {
    const advice = 'mount it for writing, or name another folder as datastore.path';
    return new TortieError('STORE_DENIED', `${text}; ${advice}`);
  }
  if (code === 'EEXIST' || code === 'ENOTDIR') {
    return new TortieError('STORE_DENIED', `${text}; name a folder as datastore.path`);
  }
  // A write is cut short by a full disk, and LMDB calls it an error of input or output.
  if (code === 'ENOSPC' || code === ENOSPC || /MDB_MAP_FULL/.test(message) || hasLittleRoom(folder)) {
    return full(folder, message);
  }
  if (
    error instanceof SyntaxError ||
    /MDB_(CORRUPTED|INVALID|PAGE_NOTFOUND|PANIC|VERSION_MISMATCH)/.test(message)
  ) {
    return corrupt(folder, message);
  }
  return new TortieError('STORE_UNAVAILABLE', text, 1, { cause: error });
}

export const full = (folder: string, what: string): TortieError =>
  new TortieError(
    'STORE_FULL',
    `${folder}: ${what}; make room on its file system, nothing that was stored is lost`,
  );

export const corrupt = (folder: string, what: string): TortieError =>
  new TortieError(
    'STORE_CORRUPT',
    `${folder}: ${what}; it is damaged: move the folder away, then put a copy back or begin anew`,
  );

export const conflict = (key: string, wanted: number | null, found: number | null): TortieError =>
  new TortieError(
    'STORE_CONFLICT',
    `${key} is ${found === null ? 'not there' : `at revision ${found}`}, not ${wanted === null ? 'new' : `at ${wanted}`}; read it again`,
  );

export function hasLittleRoom(folder: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize < LITTLE_ROOM;
  } catch {
    return false;
  }
}
