"""Redaction: personal data and secrets leave captures before these are written anywhere.

It happens once, in the gateway's writer (:mod:`gateway.redaction.stage`), upstream of store,
mirror, judge, review, export and log; the other arm's answer is redacted by the worker, by the same
rules, before it is looked at. The request to the user's model and the answer to the user are never
touched.
"""
