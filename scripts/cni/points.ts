/**
 * What the CNI specification (0.3.1 to 1.1.0) asks of a plugin, point by point: each is tried on a running plugin and throws a
 * Verdict where it is not so. A point that its cniVersion does not have yet is left out.
 */
import { type Json, parse } from './driver.ts';
import { addPoints } from './points-add.ts';
import { lifePoints } from './points-life.ts';
import { demand, demandSilence, errorCode, IFNAME, type Subject } from './subject.ts';

export interface Point {
  readonly name: string;
  /** What must hold, in a sentence. */
  readonly rule: string;
  /** Of the specification, if it came later than 0.3.1. */
  readonly since?: string;
  readonly try: (subject: Subject) => Promise<void>;
}

/** As the specification numbers its errors. */
const CODE = { version: 1, environment: 4, decode: 6, config: 7 };
const NOWHERE = { containerId: 'conformance', netns: '/run/netns/cnikit-nowhere', ifname: IFNAME };

/** ADD with one variable changed must be refused for its environment. */
const refusesEnvironment =
  (change: Json, command = 'ADD') =>
  async (subject: Subject): Promise<void> => {
    const outcome = await subject.exec({ command, ...NOWHERE, ...change });
    const code = errorCode(outcome);
    demand(code === CODE.environment, `error ${code}, not ${CODE.environment}: ${outcome.stdout}`);
  };

const refuses =
  (wanted: number, conf: (subject: Subject) => Json | string) =>
  async (subject: Subject): Promise<void> => {
    const outcome = await subject.exec({ command: 'ADD', ...NOWHERE }, conf(subject));
    const code = errorCode(outcome);
    demand(code === wanted, `error ${code}, not ${wanted}: ${outcome.stdout}`);
  };

const without = (value: Json, name: string): Json =>
  Object.fromEntries(Object.entries(value).filter(([key]) => key !== name));

const generalPoints: readonly Point[] = [
  {
    name: 'version',
    rule: 'VERSION prints the versions that are supported, and needs no more than CNI_COMMAND',
    try: async (subject) => {
      const outcome = await subject.exec({ command: 'VERSION' }, { cniVersion: subject.version });
      demand(outcome.exit === 0, `VERSION fails: ${outcome.stdout}${outcome.stderr}`);
      const answer = parse(outcome.stdout);
      demand(typeof answer?.cniVersion === 'string', `no cniVersion in ${outcome.stdout}`);
      const { supportedVersions: list } = answer;
      demand(Array.isArray(list) && list.includes(subject.version), `${subject.version} is not in ${list}`);
    },
  },
  {
    name: 'version-unknown',
    rule: 'a cniVersion that is not supported is error 1',
    try: refuses(CODE.version, (subject) => subject.conf({ cniVersion: '99.0.0' })),
  },
  {
    name: 'version-each',
    rule: 'at each supported version ADD answers in that version',
    try: async (subject) => {
      for (const version of subject.supported) {
        const container = await subject.container();
        const { result } = await subject.add(container, IFNAME, { cniVersion: version });
        demand(result.cniVersion === version, `asked in ${version}, ADD answers in ${result.cniVersion}`);
        const saysFamily = (result.ips as Json[]).every(({ version: family }) => family !== undefined);
        // Before 1.0.0 an address says its family, since then not.
        if (/^0\.[34]\./.test(version)) demand(saysFamily, `${version}: ips without version`);
        const outcome = await subject.exec(
          { command: 'DEL', ...subject.call(container) },
          subject.conf({ cniVersion: version, prevResult: result }),
        );
        demandSilence(`DEL at ${version}`, outcome);
      }
    },
  },
  {
    name: 'check-too-early',
    rule: 'CHECK before cniVersion 0.4.0 is error 1',
    try: async (subject) => {
      if (!subject.supported.includes('0.3.1')) return;
      const outcome = await subject.exec(
        { command: 'CHECK', ...NOWHERE },
        subject.conf({ cniVersion: '0.3.1' }),
      );
      const code = errorCode(outcome);
      demand(code === CODE.version, `error ${code}, not ${CODE.version}`);
    },
  },
  {
    name: 'config-garbage',
    rule: 'a configuration that is not JSON is error 6',
    try: refuses(CODE.decode, () => '{"cniVersion": '),
  },
  {
    name: 'config-nameless',
    rule: 'a configuration without a name is error 7',
    try: refuses(CODE.config, (subject) => without(subject.conf(), 'name')),
  },
  {
    name: 'config-name',
    rule: 'a network name with other characters than letters, digits, "_", "." and "-" is error 7',
    try: refuses(CODE.config, (subject) => subject.conf({ name: '../etc' })),
  },
  {
    name: 'env-command',
    rule: 'an unknown CNI_COMMAND is error 4',
    try: refusesEnvironment({}, 'FROBNICATE'),
  },
  {
    name: 'env-containerid',
    rule: 'ADD without CNI_CONTAINERID is error 4',
    try: refusesEnvironment({ containerId: undefined }),
  },
  {
    name: 'env-netns',
    rule: 'ADD without CNI_NETNS is error 4',
    try: refusesEnvironment({ netns: undefined }),
  },
  {
    name: 'env-ifname',
    rule: 'ADD without CNI_IFNAME is error 4',
    try: refusesEnvironment({ ifname: undefined }),
  },
  {
    name: 'env-containerid-invalid',
    rule: 'a CNI_CONTAINERID that is no container id is error 4',
    try: refusesEnvironment({ containerId: '../../etc' }),
  },
  {
    name: 'env-ifname-invalid',
    rule: 'a CNI_IFNAME that is too long, or has "/", ":" or a space, is error 4',
    try: async (subject) => {
      for (const ifname of ['a/b', 'a:b', 'a b', 'sixteencharacter', '..']) {
        await refusesEnvironment({ ifname })(subject);
      }
    },
  },
];

export const POINTS: readonly Point[] = [...generalPoints, ...addPoints, ...lifePoints];
