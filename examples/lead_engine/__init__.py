"""A lead engine: texts from job boards and forums become classified leads, with as few model calls as can be.

`app` puts it together, `services` has what is started once, `routers` the endpoints. Everything about models (cache,
failover, prompts, stages, records) is Penstock's; what is here is the application.
"""
