/** What resources ask for and tortie does not do: accepted, since Calico accepts it, but not in silence. */
import type { Resource } from './schema.ts';

export function warningsOf(resources: readonly Resource[]): string[] {
  return resources.flatMap((resource) => {
    const { kind, metadata } = resource;
    switch (kind) {
      case 'IPPool':
        return resource.spec.natOutgoing
          ? [`IPPool ${metadata.name}: natOutgoing does nothing yet; add the NAT rule to the host yourself`]
          : [];
      case 'BGPConfiguration':
        return metadata.name === 'default'
          ? []
          : [`BGPConfiguration ${metadata.name}: does nothing; only the one named "default" counts`];
      case 'Node':
        return resource.spec.bgp?.routeReflectorClusterID
          ? [
              `Node ${metadata.name}: routeReflectorClusterID does nothing yet; tortie does not reflect routes`,
            ]
          : [];
      default:
        return [];
    }
  });
}
