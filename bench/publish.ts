/** `node dist/bench/publish.js DOCUMENT FILE...`: write the table of runs, as --json left them, between the markers of a document. */
import { readFileSync, writeFileSync } from 'node:fs';
import { markdownTable, type Report, replaceSection } from './report.ts';

const [document, ...files] = process.argv.slice(2);
if (!document || files.length === 0) {
  console.error('usage: node dist/bench/publish.js DOCUMENT FILE...');
  process.exit(64);
}
const reports = files.map((file) => JSON.parse(readFileSync(file, 'utf8')) as Report);
writeFileSync(document, replaceSection(readFileSync(document, 'utf8'), 'results', markdownTable(reports)));
