"""The maps as array expressions: the definition of each, for rows and for segments, on any array library and device.

One file an operation. A compiled kernel may replace one (softly._kernels); what it gives must agree.
"""

from softly._expressions.entmax import entmax as entmax
from softly._expressions.log_sigmoid import log_sigmoid as log_sigmoid
from softly._expressions.log_softmax import log_softmax as log_softmax
from softly._expressions.logsumexp import logsumexp as logsumexp
from softly._expressions.sigmoid import sigmoid as sigmoid
from softly._expressions.softmax import softmax as softmax
