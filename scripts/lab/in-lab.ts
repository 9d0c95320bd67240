/** Why end-to-end tests cannot run here, or null. scripts/test runs them inside scripts/lab/enter where it can. */
export const noLab: string | null =
  process.env.TORTIE_LAB === '1'
    ? null
    : 'end-to-end tests run inside scripts/lab/enter: use npm test, or scripts/lab/enter npx vitest run --project e2e';

if (noLab) console.log(`skipped: ${noLab}`);
