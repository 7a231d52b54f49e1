/** Names of regions: `eu`, `us-east`, `home`. An operator gives them; rules compare them letter by letter. */
export const REGION_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/;
