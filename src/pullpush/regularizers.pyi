# Written by tools/stubs.py.
from pullpush.maths.regularizers.embedding_norm import embedding_norm as embedding_norm
from pullpush.maths.regularizers.vicreg import covariance as covariance
from pullpush.maths.regularizers.vicreg import variance as variance
from pullpush.maths.regularizers.vicreg import vicreg as vicreg
