/** The shipped unit under a real systemd: ready when it says so, and what it keeps while no agent runs. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../control/bgp/until.ts';
import { BURST } from '../../dataplane/memory/layout.ts';
import { Cluster, ROOT, TORTIE } from './cluster.ts';
import { noLab } from './in-lab.ts';
import { noSystemd, Systemd } from './systemd.ts';
import { ping } from './traffic.ts';

const UNIT = 'tortie.service';
const PINGS = 4000;
const FLOOD = ['-q', '-i', '0.001', '-c', String(PINGS), '-W', '5'];
const REMOTE = '10.65.2.2';

const why = noLab ?? noSystemd();
if (why && !noLab) console.log(`skipped: the tests of the systemd unit: ${why}`);

describe.skipIf(why)('the unit', () => {
  let cluster: Cluster;
  let systemd: Systemd;
  const log = () => join(cluster.lab.folder, 'systemd.log');
  beforeAll(async () => {
    cluster = await Cluster.create({ nodes: 2, podsPerNode: 1, bgp: 'none', mode: 'vxlan' });
    // From now on systemd has the agent of node 1.
    await cluster.agents.get(1)!.stop();
    await cluster.tortie(1, 'purge', '--node', 'node1');
    const command = `${process.execPath} ${TORTIE} agent --config ${cluster.settingsFile(1)}`;
    systemd = await Systemd.boot(cluster.lab, 'node1', {
      [UNIT]: readFileSync(join(ROOT, 'docs', UNIT), 'utf8'),
      // Only what differs in a lab: where the program is, that there is no journal, and nobody waits half a minute.
      [`${UNIT}.d/lab.conf`]: `[Service]\nExecStart=\nExecStart=${command}\nStandardError=append:${log()}\nWatchdogSec=3\nTimeoutAbortSec=5\n`,
    });
  });
  afterAll(async () => {
    await systemd?.close();
    await cluster?.close();
  });

  const answersAgain = () =>
    until('the agent answers', () =>
      cluster
        .api(1)
        .runtime()
        .catch(() => null),
    );
  const lostDuring = async (event: () => Promise<unknown>) => {
    const pinging = ping(cluster.lab, 'pod1a', REMOTE, FLOOD);
    await sleep(500);
    await event();
    const { sent, received } = await pinging;
    expect(sent).toBe(PINGS);
    return sent - received;
  };

  it('is started when the agent forwards', async () => {
    await systemd.ctl('start', UNIT);
    expect(await systemd.property(UNIT, 'ActiveState'), systemd.said).toBe('active');
    expect((await ping(cluster.lab, 'pod1a', REMOTE)).received).toBe(3);
    const { holder, held, inherited } = (await cluster.api(1).runtime()).restart;
    expect({ holder, inherited }).toEqual({ holder: 'systemd', inherited: 0 });
    expect(await systemd.property(UNIT, 'NFileDescriptorStore')).toBe(String(held));
  });

  it('loses nothing at a restart: systemd holds devices and sockets', async () => {
    const before = (await cluster.api(1).runtime()).restart.held;
    expect(await lostDuring(() => systemd.ctl('restart', UNIT))).toBe(0);
    const { holder, held, inherited } = (await cluster.api(1).runtime()).restart;
    expect({ holder, held, inherited }).toEqual({ holder: 'systemd', held: before, inherited: before });
  });

  it('is started again after it was killed, and loses a burst at most', async () => {
    const kill = async () => {
      await systemd.ctl('kill', '--kill-who=main', '-s', 'KILL', UNIT);
      await until('systemd has seen it', async () => (await systemd.property(UNIT, 'NRestarts')) === '1');
    };
    expect(await lostDuring(kill)).toBeLessThanOrEqual(BURST);
    await answersAgain();
    expect((await cluster.api(1).runtime()).restart.inherited).toBeGreaterThan(0);
  });

  it('leaves the agent four capabilities, for good, and probes that say it is well', async () => {
    const pid = await systemd.property(UNIT, 'MainPID');
    const status = await systemd.run('cat', `/proc/${pid}/status`);
    // NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_ADMIN.
    for (const set of ['CapEff', 'CapPrm', 'CapBnd'])
      expect(status).toMatch(new RegExp(`${set}:\\s0*203400\n`));
    expect(status).toMatch(/NoNewPrivs:\s1\n/);
    const probe = `const r = await fetch('http://127.0.0.1:9099/readiness'); console.log(r.status, await r.text())`;
    const node = ['--input-type=module', '-e', probe];
    const said = await cluster.lab.run('node1', process.execPath, node);
    expect(said).toMatch(/^200 /);
    expect(said).toMatch(/\| workers +\| 20s +\| reporting live \| reporting ready \|/);
  });

  it('is started again when it makes no progress', async () => {
    const before = Number(await systemd.property(UNIT, 'NRestarts'));
    await systemd.ctl('kill', '--kill-who=main', '-s', 'STOP', UNIT);
    await until('the watchdog has seen it', async () => {
      return Number(await systemd.property(UNIT, 'NRestarts')) > before;
    });
    await until('it runs', async () => (await systemd.property(UNIT, 'ActiveState')) === 'active');
    await answersAgain();
  });

  it('reads its settings again when told to reload', async () => {
    await systemd.ctl('reload', UNIT);
    await until('it has', () => Promise.resolve(readFileSync(log(), 'utf8').includes('"msg":"reloaded"')));
  });

  it('stops at once', async () => {
    await systemd.ctl('stop', UNIT);
    expect(await systemd.property(UNIT, 'Result')).toBe('success');
  });
});
