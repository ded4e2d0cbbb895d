"""permessage-deflate as rule 9 wants it of a library that cannot leave out the messages with the token: neither end keeps
a context, so each message is compressed by itself.
"""

from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory

CLIENT = [ClientPerMessageDeflateFactory(client_no_context_takeover=True)]
SERVER = [ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)]
