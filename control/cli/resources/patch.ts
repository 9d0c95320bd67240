/** The three kinds of patch that `tortie patch` takes, on plain JSON values. */
import { applyPatch, type Operation } from 'rfc6902';
import { EX_USAGE, TortieError } from '../../error.ts';

export const PATCH_TYPES = ['strategic', 'json', 'merge'] as const;
export type PatchType = (typeof PATCH_TYPES)[number];

/** What becomes of a value. Throws PATCH_INVALID. */
export function patched(value: unknown, patch: unknown, type: PatchType): unknown {
  switch (type) {
    case 'json':
      return jsonPatched(value, patch);
    case 'merge':
      return merged(value, mapOf(patch));
    case 'strategic':
      return strategic(value, mapOf(patch));
  }
}

function mapOf(patch: unknown): object {
  if (isMap(patch)) return patch;
  throw invalid('must be a map such as {"spec":{"disabled":true}}');
}

/** RFC 6902. */
function jsonPatched(value: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) {
    throw invalid('type json takes a list such as [{"op":"replace","path":"/spec/disabled","value":true}]');
  }
  const copy = structuredClone(value);
  const problems = applyPatch(copy, patch as Operation[]);
  for (const [index, problem] of problems.entries()) {
    if (problem) throw invalid(`operation ${index}: ${problem.message}`);
  }
  return copy;
}

/** RFC 7386: null takes a key away, maps are merged, all else is replaced. */
function merged(value: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return patch;
  const result: Record<string, unknown> = isMap(value) ? { ...value } : {};
  for (const [key, part] of Object.entries(patch)) {
    if (part === null) delete result[key];
    else result[key] = merged(Object.hasOwn(result, key) ? result[key] : undefined, part);
  }
  return result;
}

/**
 * Kubernetes' strategic merge. No list of these resources has a merge key, so lists are replaced, and it differs from
 * `merge` only by the directive `$patch`: "replace" takes a map as it is, "delete" empties it.
 */
function strategic(value: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return patch;
  const { $patch: directive, ...rest } = patch;
  if (directive === 'delete') return {};
  if (directive !== undefined && directive !== 'replace' && directive !== 'merge') {
    throw invalid(`$patch: ${JSON.stringify(directive)} is not allowed; allowed: merge, replace, delete`);
  }
  const result: Record<string, unknown> = isMap(value) && directive !== 'replace' ? { ...value } : {};
  for (const [key, part] of Object.entries(rest)) {
    if (part === null) delete result[key];
    else result[key] = strategic(Object.hasOwn(result, key) ? result[key] : undefined, part);
  }
  return result;
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const invalid = (problem: string) => new TortieError('PATCH_INVALID', `--patch: ${problem}`, EX_USAGE);
