"""The judge's own health: control pairs with a known outcome, anchors, and live biases."""
