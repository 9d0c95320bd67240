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
  z.int().min(0).max(65535),
  z.string().regex(/^\d{1,5}(:\d{1,5})?$/, { error: 'must be ports such as 32768:65535' }),
]);

const effective = {
  vxlanVNI: z
    .int()
    .min(1)
    .max(16777215)
    .optional()
    .describe('VXLAN network identifier. Default: vni of the settings.'),
  vxlanMTU: mtu
    .optional()
    .describe('Largest packet inside VXLAN, bytes; 0 or none: what the underlay has room for.'),
  vxlanMTUV6: mtu.optional().describe('The same inside VXLAN over IPv6.'),
  ipipMTU: mtu.optional().describe('The same inside IPIP.'),
  natOutgoingAddress: address4
    .optional()
    .describe('Source of packets that leave a pool with natOutgoing. Default: the node’s.'),
  natOutgoingExclusions: z
    .enum(['IPPoolsOnly', 'IPPoolsAndHostIPs'])
    .optional()
    .meta({ description: 'Where natOutgoing does not apply: pools; or nodes, too.', default: 'IPPoolsOnly' }),
} as const;

/** What settings of the agent say, or nobody. */
const elsewhere = {
  logSeverityScreen: inert(severity, 'log.level of the settings says so', 'Info'),
  prometheusMetricsEnabled: inert(z.boolean(), 'metrics of the settings say so', false),
  prometheusMetricsHost: inert(z.string(), 'metrics of the settings say so', ''),
  prometheusMetricsPort: inert(port, 'metrics of the settings say so'),
  healthEnabled: inert(z.boolean(), 'health of the settings says so', false),
  healthHost: inert(z.string(), 'health of the settings says so', ''),
  healthPort: inert(port, 'health of the settings says so'),
  mtuIfacePattern: inert(z.string(), 'interface of the settings says so', ''),
  vxlanPort: inert(port, 'VXLAN is at UDP port 4789', 4789),
  interfacePrefix: inert(z.string(), 'ports of pods begin with cali', 'cali'),
  routeRefreshInterval: inert(duration, 'the kernel is looked at every 90 seconds', '90s', '1m30s'),
  natPortRange: inert(portRange, 'the kernel chooses ports', 0),
};

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
    maxIpsetSize metadataPort nftablesMarkMask wireguardListeningPort wireguardListeningPortV6 wireguardMTU
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
  z.strictObject({ ...without, ...elsewhere, ...effective } as typeof effective),
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
