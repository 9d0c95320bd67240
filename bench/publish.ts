/**
 * `node dist/bench/publish.js DOCUMENT[#SECTION] FILE...`: write the table of runs, as --json left them, between the markers of a
 * document; those of "results", or of another section.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { markdownTable, type Report, replaceSection } from './report.ts';

const [target = '', ...files] = process.argv.slice(2);
const [document, section = 'results'] = target.split('#');
if (!document || files.length === 0) {
  console.error('usage: node dist/bench/publish.js DOCUMENT[#SECTION] FILE...');
  process.exit(64);
}
const reports = files.map((file) => JSON.parse(readFileSync(file, 'utf8')) as Report);
writeFileSync(document, replaceSection(readFileSync(document, 'utf8'), section, markdownTable(reports)));
