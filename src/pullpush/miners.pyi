# Written by tools/stubs.py.
from pullpush.maths.miners.angular import angular as angular
from pullpush.maths.miners.distance_weighted import distance_weighted as distance_weighted
from pullpush.maths.miners.easy_hard import easy_hard as easy_hard
from pullpush.maths.miners.hardest import hardest as hardest
from pullpush.maths.miners.margin_violators import margin_violators as margin_violators
from pullpush.maths.miners.margin_violators import pair_margin as pair_margin
from pullpush.maths.miners.multi_similarity import multi_similarity as multi_similarity
from pullpush.maths.miners.quotas import hard_percent as hard_percent
from pullpush.maths.miners.quotas import uniform_bins as uniform_bins
