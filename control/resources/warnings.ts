/** What resources ask for and tortie does not do: accepted, since Calico accepts it, but not in silence. */
import { isDeepStrictEqual } from 'node:util';
import type { z } from 'zod';
import { inertOf } from './fields.ts';
import { type Resource, SCHEMAS } from './schema.ts';
import { shapeOf } from './yaml.ts';

/** One line for each resource and reason. */
export function warningsOf(resources: readonly Resource[]): string[] {
  return resources.flatMap((resource) => {
    const { kind, metadata } = resource;
    const whom = `${kind} ${metadata.namespace ? `${metadata.namespace}/` : ''}${metadata.name}`;
    if (kind === 'BGPConfiguration' && metadata.name !== 'default') {
      return [`${whom}: does nothing; only the one named "default" counts`];
    }
    const reasons = new Map<string, Set<string>>();
    collect(SCHEMAS[kind], resource, '', reasons);
    return [...reasons].map(([why, fields]) => {
      const names = [...fields].join(', ');
      return `${whom}: ${names} ${fields.size === 1 ? 'does' : 'do'} nothing: ${why}`;
    });
  });
}

/** Warnings that were not told yet, of resources that come again and again. */
export class NewWarnings {
  readonly #seen = new WeakSet<Resource>();
  readonly #told = new Set<string>();

  of(resources: readonly Resource[]): string[] {
    const unseen = resources.filter((resource) => !this.#seen.has(resource));
    for (const resource of unseen) this.#seen.add(resource);
    const fresh = warningsOf(unseen).filter((warning) => !this.#told.has(warning));
    for (const warning of fresh) this.#told.add(warning);
    return fresh;
  }
}

/** Fields that are set and do nothing, by the reason why. */
function collect(schema: z.ZodType, value: unknown, path: string, reasons: Map<string, Set<string>>): void {
  const inert = inertOf(schema);
  if (inert) {
    if (value === undefined || inert.harmless.some((harmless) => isDeepStrictEqual(harmless, value))) return;
    const fields = reasons.get(inert.why) ?? new Set();
    reasons.set(inert.why, fields.add(path));
    return;
  }
  const shape = shapeOf(schema);
  if (typeof value !== 'object' || value === null || !shape) return;
  for (const [key, field] of Object.entries(value)) {
    const part = Object.hasOwn(shape, key) ? shape[key] : undefined;
    // "spec." says nothing.
    if (part) collect(part, field, path === '' || path === 'spec' ? key : `${path}.${key}`, reasons);
  }
}
