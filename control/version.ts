import { readFileSync } from 'node:fs';

/** The nearest package.json above this file: one folder up in the sources, two in dist/. */
function packageVersion(): string {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8'));
      if (name === 'tortie') return version;
    } catch {
      // Not there: look one folder higher.
    }
  }
  return 'unknown';
}

export const VERSION: string = packageVersion();
