/**
 * FelixConfiguration: how nodes work. `default` holds for all nodes, `node.NAME` for one, field by field. Most of
 * Felix's fields are about policy, iptables, BPF and WireGuard, which are not here: they are accepted and do nothing.
 */
import { z } from 'zod';
import { address4, duration, inert, port, resource } from './fields.ts';

const mtu = z.int().min(0).max(65535);
const severity = z.string().regex(/^(Trace|Debug|Info|Warning|Error|Fatal)$/i, {
  error: 'must be one of Trace, Debug, Info, Warning, Error, Fatal',
});
const portRange = z.union([
  port,
  z.string().regex(/^\d{1,5}(:\d{1,5})?$/, { error: 'must be ports such as 32768:65535' }),
]);

const effective = {
  vxlanVNI: z
    .int()
    .min(1)
    .max(16777215)
    .optional()
    .describe('VXLAN network identifier. Default: vni of the settings.'),
  vxlanPort: port.optional().meta({ description: 'UDP port of VXLAN.', default: 4789 }),
  vxlanMTU: mtu
    .optional()
    .describe('Largest packet inside VXLAN, bytes; 0 or none: what the underlay allows.'),
  ipipMTU: mtu.optional().describe('The same of IPIP.'),
  mtuIfacePattern: z.string().optional().describe('Underlay devices whose MTU counts: a regular expression.'),
  interfacePrefix: z
    .string()
    .regex(/^[^\s/:,]{1,15}(,[^\s/:,]{1,15})*$/, {
      error: 'must be prefixes of interface names, with "," between',
    })
    .optional()
    .meta({ description: 'How names of ports of pods begin.', default: 'cali' }),
  routeRefreshInterval: duration
    .optional()
    .meta({ description: 'How often the kernel is looked at without a cause; 0s: never.', default: '90s' }),
  logSeverityScreen: severity
    .optional()
    .describe('Least level that is logged. Default: log.level of the settings.'),
  prometheusMetricsEnabled: z
    .boolean()
    .optional()
    .describe('True: metrics over TCP. Default: metrics.enabled of the settings.'),
  prometheusMetricsHost: z
    .string()
    .optional()
    .describe('Address to serve them on. Default: that of the settings.'),
  prometheusMetricsPort: port.optional().describe('Port to serve them on. Default: that of the settings.'),
  healthEnabled: z
    .boolean()
    .optional()
    .describe('True: /liveness and /readiness over TCP. Default: as the settings say.'),
  healthHost: z.string().optional().describe('Address to serve them on. Default: that of the settings.'),
  healthPort: port.optional().describe('Port to serve them on. Default: that of the settings.'),
  natOutgoingAddress: address4
    .optional()
    .describe('Source of packets that leave a pool with natOutgoing. Default: the node’s.'),
  natPortRange: portRange.optional().describe('Source ports of such packets. Default: the kernel chooses.'),
  natOutgoingExclusions: z
    .enum(['IPPoolsOnly', 'IPPoolsAndHostIPs'])
    .optional()
    .meta({ description: 'Where natOutgoing does not apply: pools; or nodes, too.', default: 'IPPoolsOnly' }),
} as const;

const WHY = 'it is about what tortie does not have';

/** Names by type; each has the values that ask for nothing. */
const accepted = (
  schema: z.ZodType,
  harmless: readonly unknown[],
  names: string,
): Record<string, z.ZodType> =>
  Object.fromEntries(
    names
      .trim()
      .split(/\s+/)
      .map((name) => [name, inert(schema, WHY, ...harmless)]),
  );

const without: Record<string, z.ZodType> = {
  ...accepted(
    z.boolean(),
    [false],
    `
    allowIPIPPacketsFromWorkloads allowVXLANPacketsFromWorkloads bpfConnectTimeLoadBalancingEnabled
    bpfDisableUnprivileged bpfEnabled bpfHostConntrackBypass bpfKubeProxyIptablesCleanupEnabled bpfPolicyDebugEnabled
    debugDisableLogDropping disableConntrackInvalidCheck endpointReportingEnabled flowLogsCollectorDebugTrace
    genericXDPEnabled ipipEnabled ipv6Support prometheusGoMetricsEnabled prometheusProcessMetricsEnabled
    prometheusWireGuardMetricsEnabled removeExternalRoutes requireMTUFile routeSyncDisabled sidecarAccelerationEnabled
    usageReportingEnabled useInternalDataplaneDriver vxlanEnabled wireguardEnabled wireguardEnabledV6
    wireguardHostEncryptionEnabled wireguardThreadingEnabled xdpEnabled`,
  ),
  ...accepted(
    z.int(),
    [0],
    `
    bpfExportBufferSizeMB bpfExtToServiceConnmark bpfKubeProxyHealthzPort bpfMaglevMaxEndpointsPerService
    bpfMaglevMaxServices bpfMapSizeConntrack bpfMapSizeConntrackCleanupQueue bpfMapSizeIPSets bpfMapSizeIfState
    bpfMapSizeNATAffinity bpfMapSizeNATBackend bpfMapSizeNATFrontend bpfMapSizePerCpuConntrack bpfMapSizeRoute
    debugPort deviceRouteProtocol goGCThreshold goMaxProcs goMemoryLimitMB iptablesMarkMask logActionRateLimitBurst
    maxIpsetSize metadataPort nftablesMarkMask vxlanMTUV6 wireguardListeningPort wireguardListeningPortV6 wireguardMTU
    wireguardMTUV6 wireguardRoutingRulePriority ipv4NormalRoutePriority ipv6NormalRoutePriority
    ipv4ElevatedRoutePriority ipv6ElevatedRoutePriority`,
  ),
  ...accepted(
    z.string(),
    ['', 'Disabled', 'Auto', 'Off', 'DoNothing', 'None', '0s'],
    `
    awsSrcDstCheck bpfAttachType bpfCTLBLogFilter bpfConnectTimeLoadBalancing bpfConntrackLogLevel bpfConntrackMode
    bpfDataIfacePattern bpfDisableGROForIfaces bpfEnforceRPF bpfExternalServiceMode bpfHostNetworkedNATWithoutCTLB
    bpfJITHardening bpfKubeProxyMinSyncPeriod bpfL3IfacePattern bpfLogLevel bpfMapSizeConntrackScaling bpfProfiling
    bpfRedirectToPeer cgroupV2Path chainInsertMode dataplaneDriver dataplaneWatchdogTimeout debugHost
    debugMemoryProfilePath debugSimulateCalcGraphHangAfter debugSimulateDataplaneApplyDelay
    debugSimulateDataplaneHangAfter defaultEndpointToHostAction deviceRouteSourceAddress deviceRouteSourceAddressIPv6
    endpointReportingDelay endpointStatusPathPrefix featureDetectOverride featureGates floatingIPs
    flowLogsFlushInterval flowLogsGoldmaneServer flowLogsLocalReporter flowLogsPolicyEvaluationMode interfaceExclude
    interfaceRefreshInterval ipForwarding ipsetsRefreshInterval iptablesBackend iptablesFilterAllowAction
    iptablesFilterDenyAction iptablesLockFilePath iptablesLockProbeInterval iptablesLockTimeout
    iptablesMangleAllowAction iptablesNATOutgoingInterfaceFilter iptablesPostWriteCheckInterval
    iptablesRefreshInterval istioAmbientMode istioDSCPMark localSubnetL2Reachability logActionRateLimit
    logDebugFilenameRegex logFilePath logPrefix logSeverityFile logSeveritySys metadataAddr netlinkTimeout
    nftablesFilterAllowAction nftablesFilterDenyAction nftablesMangleAllowAction nftablesMode nftablesRefreshInterval
    openstackRegion policySyncPathPrefix programClusterRoutes prometheusMetricsCAFile prometheusMetricsCertFile
    prometheusMetricsClientAuth prometheusMetricsKeyFile reportingInterval reportingTTL routeSource
    serviceLoopPrevention usageReportingInitialDelay usageReportingInterval windowsManageFirewallRules
    wireguardInterfaceName wireguardInterfaceNameV6 wireguardKeepAlive workloadSourceSpoofing xdpRefreshInterval`,
  ),
  ...accepted(
    z.unknown(),
    [],
    `
    bpfConntrackTimeouts bpfDSROptoutCIDRs bpfExcludeCIDRsFromNAT bpfForceTrackPacketsFromIfaces bpfLogFilters
    bpfPSNATPorts externalNodesList failsafeInboundHostPorts failsafeOutboundHostPorts healthTimeoutOverrides
    kubeNodePortRanges routeTableRange routeTableRanges`,
  ),
};

export const felixConfiguration = resource(
  'FelixConfiguration',
  // The type tells of fields that do something.
  z.strictObject({ ...without, ...effective } as typeof effective),
);

export type FelixConfiguration = z.infer<typeof felixConfiguration>;

/** What FelixConfigurations say for a node: that of the node before the default, field by field. */
export function felixSettings(
  nodeName: string,
  resources: readonly { readonly kind: string }[],
): FelixConfiguration['spec'] {
  const all = resources.filter(
    (resource): resource is FelixConfiguration => resource.kind === 'FelixConfiguration',
  );
  const named = (wanted: string) => all.find(({ metadata }) => metadata.name === wanted)?.spec ?? {};
  return { ...named('default'), ...named(`node.${nodeName}`) };
}
