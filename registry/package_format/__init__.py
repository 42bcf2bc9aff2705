"""What a package looks like: names, versions, ranges, manifests and archives. The service and the client share it."""
