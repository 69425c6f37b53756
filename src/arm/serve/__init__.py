"""An HTTP server that speaks the routes of OpenAI's clients: pictures, edits and chat.

protocol.py    request fields, errors and replies
engine.py      the queue, the thread that runs waiting jobs together in batches, and its metrics
jobs.py        drawing, editing and chat as procedures that the engine runs
server.py      what the routes share: models, engine, limits, pictures on their way in
routes.py      the POST routes
app.py         the ASGI application, request ids, body limits, the log, and the web server
"""
